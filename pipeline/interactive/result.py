"""A finished run for Python: its summary, its rows, and how a notebook shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.humanize import count, duration, plural
from pipeline.input.plain import rows_with_gaps
from pipeline.output.rows.stored_rows import FILE, ROW, StoredRows
from pipeline.printable import shown
from pipeline.report.summary import Summary

if TYPE_CHECKING:
    import pandas

_SHOWN = 5
_LONGEST = 200  # characters of a cell


class Result:
    """What ``run`` returns: the rows, and all fields of ``report.summary.Summary``
    (``result.accuracy`` and so on)."""

    def __init__(self, summary: Summary) -> None:
        self.summary = summary

    def __getattr__(self, name: str) -> Any:
        if name == "summary":  # not there yet, while it is unpickled
            raise AttributeError(name)
        return getattr(self.summary, name)

    def to_arrow(self) -> pa.Table:
        """All rows, in input order."""
        stored = StoredRows(self.summary.output)
        tables = [table.drop_columns([FILE, ROW]) for table in stored.tables()]
        every = [stored.schema.empty_table(), *tables]  # a table may lack columns of others
        return pa.concat_tables(every, promote_options="permissive")

    def to_pandas(self) -> pandas.DataFrame:
        """All rows, in input order, for pandas."""
        return self.to_arrow().to_pandas()

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row after the other, as plain Python values."""
        stored = StoredRows(self.summary.output)
        for table in stored.tables():
            names = [name for name in table.column_names if name not in (FILE, ROW)]
            yield from rows_with_gaps(table.select(names))

    def __repr__(self) -> str:
        s = self.summary
        agreement = f", {s.accuracy:.3f} agree with {s.gold}" if s.accuracy is not None else ""
        failed = f", {count(s.failed)} failed" if s.failed else ""
        return f"Result({plural(s.rows, 'row')}{failed}{agreement} → {s.output})"

    def _repr_html_(self) -> str:
        """What a notebook shows: counts, the shares of the labels as bars, the first rows."""
        s = self.summary
        facts = f"{plural(s.rows, 'row')}, {count(s.failed)} failed, {duration(s.seconds)}"
        if s.accuracy is not None:
            facts += f", {s.accuracy:.1%} agree with {_as_html(s.gold or '')}"
        asked = "".join(
            f"<p>{_as_html(name)}</p>{_bars(one['labels'])}" for name, one in s.questions.items()
        )
        return f"<b>{_as_html(s.name)}</b> · {facts}{_bars(s.labels)}{asked}{self._first_rows()}"

    def _first_rows(self) -> str:
        stored = StoredRows(self.summary.output)
        table = stored.first(_SHOWN)
        told = (*stored.kept, *stored.answer_columns, "confidence", "error")
        names = [name for name in dict.fromkeys(told) if name in table.column_names]
        if "error" in names and not table["error"].drop_null():
            names.remove("error")
        head = "".join(f"<th>{_as_html(name)}</th>" for name in names)
        body = "".join(
            "<tr>"
            + "".join(f"<td>{_as_html(str(row[name]), _LONGEST)}</td>" for name in names)
            + "</tr>"
            for row in rows_with_gaps(table.select(names))
        )
        return f"<table><tr>{head}</tr>{body}</table>"


def _bars(labels: Mapping[str, int]) -> str:
    most = max(labels.values(), default=0)
    bars = "".join(
        f"<tr><td>{_as_html(label)}</td><td style='text-align:right'>{count(n)}</td>"
        f"<td style='width:20em'><div style='background:#0b6bcb;height:.7em;"
        f"width:{100 * n / most:.0f}%'></div></td></tr>"
        for label, n in labels.items()
    )
    return f"<table>{bars}</table>" if bars else ""


def _as_html(text: str, longest: int | None = None) -> str:
    return escape(shown(text)[:longest])
