"""All pairs of answers to a row, from outputs over the same input."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pyarrow.compute as pc

from pipeline.errors import UsageError
from pipeline.job.template.field_text import as_text
from pipeline.output.columns.answers_as_rows import NUMBER
from pipeline.output.reviews.answers import Place
from pipeline.output.rows.stored_rows import FILE, ROW, StoredRows
from pipeline.output.runs.status import need_finished


@dataclass(frozen=True)
class AnswerPair:
    """Two answers to a row, with the numbers of their outputs. ``row``: counted in the order of
    the pairs. ``texts``: what was asked, by column."""

    place: Place
    row: int
    one: int
    other: int
    texts: Mapping[str, str]
    answers: tuple[str, str]

    @property
    def question(self) -> str:
        return "\n".join(self.texts.values())

    @property
    def differs(self) -> bool:
        return self.answers[0] != self.answers[1]


def outputs_to_compare(
    addresses: Sequence[str], note: Callable[[str], None] = lambda line: None
) -> list[StoredRows]:
    """Raises UsageError for an address that is no output, is named twice, is not finished, or has
    several answers per row; AlreadyRunning for an output that is being written. ``note`` gets a
    line before something that takes long."""
    stored = [StoredRows(address) for address in addresses]
    if len({one.address.rstrip("/") for one in stored}) < len(stored):
        raise UsageError("one output is named twice", "name outputs of different jobs")
    for one in stored:
        need_finished(one.address, note)
        if NUMBER in one.schema.names or "completions" in one.schema.names:
            raise UsageError(
                f"{one.address} has several answers a row", "judge outputs with one answer a row"
            )
    return stored


def answer_pairs(stored: Sequence[StoredRows], most: int | None = None) -> list[AnswerPair]:
    """All pairs of answers for each row that all outputs have answered, row by row.

    ``most``: at most this many rows, drawn pseudo-randomly, always the same ones. Raises UsageError
    if the inputs differ.
    """
    places = _common(stored)
    if most is not None:
        places = sorted(places, key=_drawn_at)[:most]
    return [pair for row in _pairs_at(stored, places, 0) for pair in row]


def drawn_pairs(stored: Sequence[StoredRows], first: int) -> Iterator[list[AnswerPair]]:
    """The same for all rows, in the order of drawing, a list for each. Rows are read on demand:
    ``first`` rows at once, then more and more."""
    places = sorted(_common(stored), key=_drawn_at)
    at = 0
    while at < len(places):
        yield from _pairs_at(stored, places[at : at + first], at)
        at, first = at + first, 4 * first


def _common(stored: Sequence[StoredRows]) -> list[Place]:
    """The rows that all outputs have answered, in the first one's order."""
    others = [set(_places(one)) for one in stored[1:]]
    common = [place for place in _places(stored[0]) if all(place in other for other in others)]
    if not common:
        raise UsageError(
            f"{_names(stored)} have no answered row in common",
            "rows are matched by the name of their file and their place in it",
        )
    return common


def _pairs_at(
    stored: Sequence[StoredRows], places: Sequence[Place], number: int
) -> Iterator[list[AnswerPair]]:
    """``number``: the number of the first row."""
    answers = [dict(_answers(one, stored[0].asked_columns, places)) for one in stored]
    for place in places:
        texts = answers[0][place][0]
        for other in answers[1:]:
            unlike = [n for n, text in other[place][0].items() if texts.get(n, text) != text]
            if unlike:
                raise UsageError(
                    f"{_names(stored)} are over different inputs: row {place[1]} of {place[0]} has "
                    f"another {unlike[0]} in each",
                    "name outputs over the same rows",
                )
    for row, place in enumerate(places, number):
        texts, given = answers[0][place][0], [one[place][1] for one in answers]
        yield [
            AnswerPair(place, row, one, other, texts, (given[one], given[other]))
            for one, other in combinations(range(len(stored)), 2)
        ]


def _names(stored: Sequence[StoredRows]) -> str:
    return " and ".join(one.address for one in stored)


def _drawn_at(place: Place) -> bytes:
    """Sorts places into the order of drawing: pseudo-random, and always the same."""
    return hashlib.sha256(f"{place[0]}\0{place[1]}".encode("utf-8", "surrogatepass")).digest()


def _places(stored: StoredRows) -> Iterator[Place]:
    """The places of all answered rows."""
    for table in stored.tables(["error"]):
        answered = table.filter(pc.is_null(table["error"]))
        yield from zip(answered[FILE].to_pylist(), answered[ROW].to_pylist(), strict=True)


def _answers(
    stored: StoredRows, columns: Sequence[str], places: Sequence[Place]
) -> Iterator[tuple[Place, tuple[dict[str, str], str]]]:
    """Each answered row at ``places``, with the kept columns of what was asked, and the answer."""
    asked = [name for name in columns if name in stored.kept]
    for place, row in stored.rows_at(places, {"error", *stored.answer_columns, *asked}):
        if row["error"] is None:
            texts = {name: as_text(row[name]) for name in asked if row[name] is not None}
            yield place, (texts, _answer(stored, row))


def _answer(stored: StoredRows, row: dict[str, Any]) -> str:
    columns = stored.answer_columns
    if len(columns) == 1:
        return as_text(row[columns[0]]).strip()
    return "\n".join(f"{name}: {as_text(row[name])}" for name in columns)
