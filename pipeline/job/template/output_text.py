"""Which text of a Jinja template goes into the prompt, and which is only searched for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

# filters (and `join` as a method): index of the first argument that is written
_WRITTEN_FROM = {"join": 0, "default": 0, "d": 0, "replace": 1}


class MarkWrittenText(NodeTransformer):
    """Applies ``mark`` to all text of a syntax tree that the template writes.

    Text that is compared, searched for, or a name stays as it is, since rows are searched with it:
    ``{% if "<eos>" in text %}``, ``text.split("<eos>")``.
    """

    def __init__(self, mark: Callable[[str], str]) -> None:
        self._mark = mark

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.TemplateData:  # noqa: N802
        node.data = self._mark(node.data)
        return node

    def visit_Const(self, node: nodes.Const) -> nodes.Const:  # noqa: N802
        if isinstance(node.value, str):
            node.value = self._mark(node.value)
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:  # noqa: N802
        return self._only(node, "node", _WRITTEN_FROM.get(node.name))

    def visit_Call(self, node: nodes.Call) -> nodes.Node:  # noqa: N802
        if isinstance(node.node, nodes.Getattr):
            return self._only(node, "node", _WRITTEN_FROM.get(node.node.attr))
        return self._only(node, "node", 0)  # a macro, or a function of the template's

    def visit_Test(self, node: nodes.Test) -> nodes.Node:  # noqa: N802
        return self._only(node, "node", None)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:  # noqa: N802
        for side in (node.expr, *(operand.expr for operand in node.ops)):
            if not isinstance(side, nodes.Const | nodes.List | nodes.Tuple):
                self.visit(side)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        return self._only(node, "node", None)

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:  # noqa: N802
        return self._only(node, "value", None)

    def _only(self, node: Any, name: str, written_from: int | None) -> nodes.Node:
        """Visit one child of ``node``, and its arguments from the given index."""
        if getattr(node, name) is not None:
            setattr(node, name, self.visit(getattr(node, name)))
        for number, argument in enumerate(getattr(node, "args", None) or ()):
            if written_from is not None and number >= written_from:
                node.args[number] = self.visit(argument)
            elif not isinstance(argument, nodes.Const):
                self.visit(argument)
        for keyword in getattr(node, "kwargs", None) or ():
            if written_from == 0 or not isinstance(keyword.value, nodes.Const):
                keyword.value = self.visit(keyword.value)
        changed: nodes.Node = node
        return changed
