"""Prompt templates: plain ``{field}`` substitution, and sandboxed Jinja for more."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from functools import cached_property
from typing import Any

from jinja2 import StrictUndefined, meta

from pipeline.errors import RowError, RowErrorType
from pipeline.job.template.field_text import as_text
from pipeline.job.template.marked_text import restored, unmarked
from pipeline.job.template.sandbox import BoundedEnvironment, bounded

Row = Mapping[str, Any]

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


_TAKEN_APART = (
    "Jinja: the template measures or changes text into which it wrote control tokens itself: put "
    "them straight into the prompt, or set special_tokens: control"
)


class TemplateSyntaxError(ValueError):
    """The template itself is wrong, whatever the rows hold."""


@dataclass(frozen=True)
class Template:
    """A template, ``{column}`` or Jinja. Construction raises TemplateSyntaxError on bad syntax."""

    source: str
    jinja: bool = False
    mark: Callable[[str], str] | None = dataclass_field(default=None, compare=False)

    def __post_init__(self) -> None:
        _ = self.fields  # parses, so a bad template fails here and not at a row

    def marked(self, mark: Callable[[str], str]) -> Template:
        """The same template, with ``mark`` applied to its own text, not to rows."""
        return replace(self, mark=mark)

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The row fields that the template uses, in order of first use."""
        if self.jinja:
            try:
                _ = self._render_jinja  # it may parse but not compile
                return tuple(
                    sorted(meta.find_undeclared_variables(self._environment.parse(self.source)))
                )
            except RecursionError:
                raise TemplateSyntaxError("Jinja: nested too deeply") from None
            except Exception as e:  # Python compiles it in the end, and raises errors of its own
                raise TemplateSyntaxError(f"Jinja: {e}") from e
        return tuple(dict.fromkeys(field for field, _ in self._parts if field is not None))

    @cached_property
    def _parts(self) -> tuple[tuple[str | None, str], ...]:
        """(field, '') for a substitution, (None, text) for a stretch of literal text."""
        parts: list[tuple[str | None, str]] = []
        literal, position = "", 0
        for match in _TOKEN.finditer(self.source):
            literal += self.source[position : match.start()]
            position = match.end()
            token = match.group()
            if token in ("{{", "}}"):
                literal += token[0]
            elif token in ("{", "}"):
                raise TemplateSyntaxError(f"a single {token} stands alone: write {token * 2}")
            else:
                field = match.group(1).strip()
                if not field:
                    raise TemplateSyntaxError("{} names no field: write {{}} for braces")
                if literal:
                    parts.append((None, literal))
                parts.append((field, ""))
                literal = ""
        literal += self.source[position:]
        if literal:
            parts.append((None, literal))
        if self.mark is None:
            return tuple(parts)
        return tuple((field, self.mark(text)) for field, text in parts)

    @cached_property
    def _environment(self) -> BoundedEnvironment:
        return BoundedEnvironment(
            undefined=StrictUndefined, keep_trailing_newline=True, mark=self.mark
        )

    @cached_property
    def _render_jinja(self) -> Callable[..., str]:
        return bounded(self._environment.from_string(self.source).render)

    @cached_property
    def _unmarked(self) -> Template | None:
        """The same template without marks, if marks could show."""
        writes_control = self.mark is not None and self.mark(self.source) != self.source
        return replace(self, mark=None) if self.jinja and writes_control else None

    def render(self, row: Row) -> str:
        """The text for one row.

        Raises RowError (InvalidRow) if a field that the template uses is null or missing, or if
        the template does something with its own control token that is not possible with one.
        """
        for field in self.fields:
            if lookup(row, field) is None:
                raise RowError(RowErrorType.INVALID_ROW, f"field {field!r} of the prompt is null")
        if self.jinja:
            text = self._jinja_text(row)
            if self._unmarked and unmarked(text) != self._unmarked._jinja_text(row):
                raise RowError(RowErrorType.INVALID_ROW, _TAKEN_APART)
            return text
        return "".join(
            text if field is None else as_text(lookup(row, field)) for field, text in self._parts
        )

    def _jinja_text(self, row: Row) -> str:
        try:
            return self._render_jinja(row)
        except Exception as e:  # anything that an expression in the template raises on this row
            raise RowError(RowErrorType.INVALID_ROW, f"Jinja: {restored(str(e))}") from e


def lookup(row: Row, field: str) -> Any:
    """The value of ``field``; ``a.b`` reaches into a struct column ``a``; None if absent."""
    if field in row:
        return row[field]
    head, dot, rest = field.partition(".")
    inner = row.get(head)
    return lookup(inner, rest) if dot and isinstance(inner, Mapping) else None
