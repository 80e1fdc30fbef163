"""Reviews as CSV: one line per row and reviewer.

    _file,_row,part,inclusion_probability,reviewer,value,unsure,model,confidence, the row's texts

A row without answers has one line without ``reviewer`` and ``value``. Reading back needs ``_file``,
``_row`` and ``value``; if ``unsure`` is yes, ``value`` does not count.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from pipeline.errors import UsageError, did_you_mean
from pipeline.output.reviews.exchange.shapes import (
    ExportedRow,
    ImportedAnswer,
    reviewer_called,
)

_FACTS = ("_file", "_row", "part", "inclusion_probability")
_COLUMNS = (*_FACTS, "reviewer", "value", "unsure", "model", "confidence")
_NEEDED = ("_file", "_row", "value")
_LONGEST_CELL = 1 << 30
_YES = {"yes", "true", "1", "y"}


def written(rows: Sequence[ExportedRow]) -> str:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    fields = list(rows[0].shown.texts) if rows else []
    lines.writerow([*_COLUMNS, *(f"text {f}" if f in _COLUMNS else f for f in fields)])
    for out in rows:
        for start in _starts(out):
            sure = "" if out.shown.confidence is None else out.shown.confidence
            texts = [out.shown.texts[field] for field in fields]
            lines.writerow([*out.facts.values(), *start, out.shown.answer or "", sure, *texts])
    return text.getvalue()


def _starts(out: ExportedRow) -> Iterator[tuple[str, str, str]]:
    if not out.answers:
        yield "", "", ""
    for reviewer, answer in out.answers.items():
        yield reviewer, answer.value or "", "" if answer.value is not None else "yes"


def read(text: str) -> Iterator[ImportedAnswer]:
    """Raises UsageError if ``text`` is no such file."""
    csv.field_size_limit(_LONGEST_CELL)
    lines = csv.DictReader(io.StringIO(text, newline=""))
    try:
        names = list(lines.fieldnames or ())
        for needed in _NEEDED:
            if needed not in names:
                raise UsageError(f"it has no column {needed!r}", *did_you_mean(needed, names))
        for line in lines:
            where = f"line {lines.line_num}"
            unsure = (line.get("unsure") or "").strip().lower() in _YES
            if not line["value"] and not unsure:
                continue
            row = (line["_row"] or "").strip()
            if not (row.isascii() and row.isdecimal() and len(row) < 19):
                raise UsageError(f"{where}: _row is {row[:40]!r}, no number of a row")
            value = None if unsure else line["value"]
            yield ImportedAnswer(
                line["_file"] or "", int(row), value, reviewer_called(line.get("reviewer")), where
            )
    except csv.Error as e:
        raise UsageError(f"line {lines.line_num}: {e}") from None
