"""Jinja that can neither reach into Python nor run forever.

Jinja's own sandbox keeps templates away from attributes that lead into the interpreter, but not
from ``{% for %}`` in ``{% for %}``, ``'x' * 10**10`` or ``2 ** 10**10``. Here every operation is
charged for what it reads and what it makes, and a template that spends more than a prompt can ever
need is stopped. The charge depends only on the template and the row, never on time: a row that is
refused on one machine is refused on all.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial, wraps
from typing import Any

from jinja2 import TemplateAssertionError, TemplateRuntimeError, nodes, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from pipeline.job.template.field_text import as_printed
from pipeline.job.template.json_text import json_text
from pipeline.job.template.marked_text import (
    CUTTING,
    FINDING,
    by_letters,
    by_places,
    cut,
    looked_at,
    restored,
)
from pipeline.job.template.output_text import MarkWrittenText

_MOST_STEPS = 200_000  # rounds of loops, entries of lists looked at: less than a second
_CALL_STEPS = 16  # cost of a call
_MOST_CHARACTERS = (
    64_000_000  # read and written on the way; the longest prompts have half a million
)
_MOST_WIDTH = 100_000  # of a padded text, a number's digits, a slice
_LEFT_OUT_FILTERS = ("urlize", "xmlattr", "pprint")  # for web pages and debugging
_LEFT_OUT_METHODS = ("expandtabs", "translate", "maketrans", "to_bytes")
# these inspect texts, and do not pass them on
_LOOKING_FILTERS = frozenset(
    (
        "tojson",
        "length",
        "count",
        "wordcount",
        "urlencode",
        "e",
        "escape",
        "forceescape",
        "striptags",
    )
)
# these iterate over the letters of a text
_LETTER_FILTERS = frozenset(("list", "first", "last", "batch", "slice", "unique", "sort", "join"))
# in a format: a width of 10,000 or more, or one given by an argument
_WIDE = re.compile(r"%(\([^)]*\))?[#0 +\-.\d]*(\*|\d{5})|\{[^{}]*:[^{}]*(\{|\d{5})")
_TEXT = str | bytes


class TooMuchWork(TemplateRuntimeError):
    """The template does more work than any prompt needs."""


class _WorkMeter(threading.local):
    """What the rendering in this thread has spent."""

    steps = 0
    characters = 0

    def start(self) -> None:
        self.steps = self.characters = 0

    def spend(self, steps: int, characters: int) -> None:
        self.steps += steps
        self.characters += characters
        if self.steps > _MOST_STEPS or self.characters > _MOST_CHARACTERS:
            raise TooMuchWork("the template does more than a prompt can need")

    def weigh(self, *values: Any) -> None:
        """Charge for reading ``values`` once, with everything inside them."""
        steps, characters = self.steps, self.characters
        waiting = list(values)
        while waiting:
            value = waiting.pop()
            steps += 1
            if isinstance(value, _TEXT):
                characters += len(value)
            elif isinstance(value, int):
                characters += value.bit_length() >> 2
            else:
                characters += 8
                if isinstance(value, list | tuple | set | frozenset):
                    waiting += value
                elif isinstance(value, dict | Mapping):
                    waiting += (*value.keys(), *value.values())
                elif isinstance(value, Namespace):
                    waiting += value._Namespace__attrs.values()
            if steps > _MOST_STEPS or characters > _MOST_CHARACTERS:
                break
        self.steps, self.characters = steps, characters
        self.spend(0, 0)


_METER = _WorkMeter()


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """A sandboxed environment whose templates terminate. Wrap ``render`` with ``bounded``."""

    intercepted_binops = frozenset(("+", "*", "**", "%", "//", "/", "-"))

    def __init__(self, *, mark: Callable[[str], str] | None = None, **options: Any) -> None:
        """``mark``: applied to the template's own text (see ``job.template.output_text``)."""
        # nothing is computed while a template compiles: there is no meter yet
        super().__init__(finalize=_printed, optimized=False, **options)
        self._mark = mark
        self.policies["json.dumps_function"] = json_text
        del self.globals["lipsum"]
        for name in _LEFT_OUT_FILTERS:
            del self.filters[name]
        self.filters = {name: _charged(name, f) for name, f in dict[str, Any](self.filters).items()}
        tests = dict[str, Any](self.tests).items()
        self.tests = {name: _charged(name, t, looks=True) for name, t in tests}
        self.filters |= {"_each": _each, "_weighed": _weighed, "_compared": _compared}
        self.filters["_by_places"] = _by_places

    def _generate(
        self, source: nodes.Template, name: Any, filename: Any, defer_init: bool = False
    ) -> str:
        if self._mark is not None:
            source = MarkWrittenText(self._mark).visit(source)
        return super()._generate(_Charges(self).visit(source), name, filename, defer_init)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        _METER.weigh(left, right)
        _check_operation(operator, left, right)
        result = super().call_binop(context, operator, left, right)
        _METER.weigh(result)
        return result

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        owner = getattr(getattr(__obj, "__wrapped__", __obj), "__self__", None)
        _METER.spend(_CALL_STEPS, 0)
        _METER.weigh(owner, args, kwargs)
        call = partial(super().call, __context)
        if isinstance(owner, str | bytes | int | float | list | tuple):
            name = __obj.__name__
            looks = name in FINDING or (name in CUTTING and isinstance(owner, str))
            if looks:
                args, kwargs = looked_at(args), looked_at(kwargs)
            args = _check_method(owner, name, args, kwargs)
            plain = looked_at(owner) if looks else owner
            if plain != owner:
                __obj = getattr(plain, name)
                if isinstance(owner, str) and name in CUTTING:
                    call = partial(cut, owner, name, call)
        result = call(__obj, *args, **kwargs)
        _METER.weigh(result)
        return result

    def getitem(self, obj: Any, argument: Any) -> Any:
        return super().getitem(by_places(obj) if isinstance(argument, int) else obj, argument)


def bounded(render: Callable[..., str]) -> Callable[..., str]:
    """``render`` of a template of a BoundedEnvironment; every call starts with a fresh meter.

    It raises TooMuchWork in addition to what rendering raises.
    """

    def rendered(*args: Any, **kwargs: Any) -> str:
        _METER.start()
        return restored(render(*args, **kwargs))

    return rendered


class _Charges(NodeTransformer):
    """Inserts the meter into a template's syntax tree where Jinja has no hook."""

    def __init__(self, environment: BoundedEnvironment) -> None:
        self._environment = environment

    def _filter(self, node: Any, name: str, *args: nodes.Expr) -> nodes.Filter:
        return nodes.Filter(
            node, name, list(args), [], None, None,
            lineno=node.lineno, environment=self._environment,
        )  # fmt: skip

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802
        if node.recursive:
            raise TemplateAssertionError("recursive loops are not for prompts", node.lineno)
        self.generic_visit(node)
        text = sum(len(data.data) for part in node.body for data in _texts(part))
        node.iter = self._filter(node.iter, "_each", nodes.Const(text, lineno=node.lineno))
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:  # noqa: N802
        self.generic_visit(node)
        node.expr = self._filter(node.expr, "_compared")
        for operand in node.ops:
            operand.expr = self._filter(operand.expr, "_compared")
        return node

    def _made(self, node: Any) -> Any:
        self.generic_visit(node)
        return self._filter(node, "_weighed")

    visit_Concat = visit_List = visit_Dict = _made  # noqa: N815

    def visit_Tuple(self, node: nodes.Tuple) -> Any:  # noqa: N802
        return self._made(node) if node.ctx == "load" else node

    def visit_Getitem(self, node: nodes.Getitem) -> Any:  # noqa: N802
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        node.node = self._filter(node.node, "_by_places")
        return self._filter(node, "_weighed")


def _texts(node: nodes.Node) -> Iterable[nodes.TemplateData]:
    if isinstance(node, nodes.TemplateData):
        return (node,)
    return node.find_all(nodes.TemplateData)


@pass_context
def _each(_context: Context, values: Iterable[Any], text: int) -> Iterator[Any]:
    """The values of a loop; its body has ``text`` characters of plain text."""
    for value in by_letters(values):
        _METER.spend(1, text)
        yield value


@pass_context
def _weighed(_context: Context, value: Any) -> Any:
    _METER.weigh(value)
    return value


@pass_context
def _by_places(_context: Context, value: Any) -> Any:
    return by_places(value)


@pass_context
def _compared(_context: Context, value: Any) -> Any:
    _METER.weigh(value)
    return looked_at(value)


@pass_context
def _printed(_context: Context, value: Any) -> str:
    _METER.weigh(value)
    return value if type(value) is str else as_printed(value)


def _charged(name: str, function: Callable[..., Any], *, looks: bool = False) -> Callable[..., Any]:
    """A filter or test that charges for its arguments and its result. ``looks``: it inspects texts
    instead of passing them on."""
    first = 1 if hasattr(function, "jinja_pass_arg") else 0
    looks = looks or name in _LOOKING_FILTERS

    @wraps(function)
    def charged(*args: Any, **kwargs: Any) -> Any:
        own = args[first:]
        _METER.weigh(own, kwargs)
        if looks:
            own = looked_at(own)
        elif name in _LETTER_FILTERS and own:
            own = (by_letters(own[0]), *own[1:])
        args = (*args[:first], *_check_filter(name, own, kwargs))
        result = function(*args, **kwargs)
        _METER.weigh(result)
        return result

    return charged


def _check_operation(operator: str, left: Any, right: Any) -> None:
    if operator == "%" and isinstance(left, _TEXT):
        _check_format(left)
    if operator == "*":
        for many, times in ((left, right), (right, left)):
            if isinstance(many, str | bytes | list | tuple) and isinstance(times, int):
                _spend_ahead(_size(many) * times)
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * right if operator == "**" else left.bit_length()
        if bits > _MOST_WIDTH:
            raise TooMuchWork("a number of that many digits is not for prompts")


def _check_method(
    owner: Any, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Any, ...]:
    """Refuse calls whose result is far larger than their input. Returns the arguments to use."""
    if name in _LEFT_OUT_METHODS:
        raise TooMuchWork(f"{name} is not for prompts")
    if name in ("format", "format_map"):
        _check_format(owner)
        return args
    _check_widths(args, kwargs)
    if name == "join" and args:
        args = (_joinable(args[0], owner), *args[1:])
    if name == "replace" and len(args) > 1:
        _spend_ahead(owner.count(args[0]) * len(args[1]))
    return args


def _check_filter(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """The same for filters; ``args``: the filtered value first."""
    value, *others = args or (None,)
    if name == "format":
        _check_format(str(value))
        return args
    if name in ("center", "batch", "slice", "round", "wordwrap", "indent", "truncate"):
        _check_widths(others, kwargs)
    if name == "join":
        separator = others[0] if others else kwargs.get("d", "")
        return (_joinable(value, str(separator)), *others)
    if name == "sum" and not isinstance(kwargs.get("start", (*others, 0, 0)[1]), int | float):
        raise TooMuchWork("sum is for numbers")
    if name in ("replace", "indent", "wordwrap"):
        text = str(value)
        put_in = sum(
            entry if isinstance(entry, int) else len(str(entry))
            for entry in (*others, *kwargs.values())
        )
        places = text.count(str(others[0])) if name == "replace" and others else text.count("\n")
        _spend_ahead((places + len(text) * (name == "wordwrap")) * put_in)
    return args


def _check_widths(args: Iterable[Any], kwargs: Mapping[str, Any]) -> None:
    for value in (*args, *kwargs.values()):
        if isinstance(value, int) and abs(value) > _MOST_WIDTH:
            raise TooMuchWork(f"a width or count of {_MOST_WIDTH:,} is the most")


def _check_format(text: str | bytes) -> None:
    plain = text.decode("latin-1") if isinstance(text, bytes) else text
    if _WIDE.search(plain):
        raise TooMuchWork("a format with a width from an argument, or a very large one")


def _joinable(values: Any, separator: str) -> list[Any]:
    """The texts to join, after a check that they fit."""
    found = []
    for value in values:
        _METER.weigh(value)
        found.append(value)
        _METER.spend(0, len(separator))
    return found


def _spend_ahead(characters: int) -> None:
    _METER.spend(0, max(0, characters))


def _size(value: Any) -> int:
    return len(value) if isinstance(value, _TEXT) else 8 * len(value)
