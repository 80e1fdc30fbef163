"""Draws rows of an output for review, and reads these rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.errors import UsageError
from pipeline.input.plain import plain_values
from pipeline.output.reviews.answers import Place
from pipeline.output.reviews.question import ReviewQuestion, shown_fields, shown_texts
from pipeline.output.reviews.sample import DrawnRow, ReviewSample, asked_order, numbers, sizes
from pipeline.output.rows.example_rows import ExampleRows
from pipeline.output.rows.gold_file import GoldFile, gold_source
from pipeline.output.rows.stored_rows import FILE, ROW, StoredRows

_RANDOM, _DOUBT = 1, 2
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ShownRow:
    """A row as reviewers see it: ``texts`` by field, the model's ``answer`` and ``confidence``
    (None: not known)."""

    texts: Mapping[str, str]
    answer: str | None
    confidence: float | None

    @property
    def digest(self) -> str:
        """A digest of the texts, to check that the row is still the one that was reviewed."""
        every = repr(sorted(self.texts.items())).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(every, digest_size=8).hexdigest()


def draw(stored: StoredRows, question: ReviewQuestion, wanted: int, seed: int) -> ReviewSample:
    """A sample of ``wanted`` rows whose right answer is not known yet. The same seed and rows give
    the same sample, and a larger sample begins with the smaller one.

    Raises UsageError if no row is left; StorageFailed.
    """
    known = _Candidates(wanted + 1)
    named, file = gold_source(question.gold)
    gold = named and stored.kept_as(named)
    for table in stored.tables():
        if table.num_rows:
            name = table[FILE][0].as_py()
            known.add(name, *_candidates(table, stored, question, gold, file), seed)
    if not known.population:
        raise UsageError(
            f"{stored.address} has no row to review: each failed, is an example of the prompt, or "
            "has a right answer already"
        )
    random, doubtful = known.orders(doubt=question.confidences is not None and known.told)
    taken, k, gone = asked_order(random, doubtful, wanted)
    first = {row: place for place, row in enumerate(random[:k])}
    second = {row: place for place, row in enumerate(doubtful[:gone])}
    drawn = [known.drawn(row, first.get(row), second.get(row)) for row in taken]
    after = known.priority(doubtful[gone]) if gone < len(doubtful) else 0.0
    texts = rows_at(stored, question, {row.place for row in drawn})
    drawn = [replace(row, digest=texts[row.place].digest) for row in drawn]
    return ReviewSample(seed, drawn, known.population, after)


def rows_at(
    stored: StoredRows, question: ReviewQuestion, places: set[Place]
) -> dict[Place, ShownRow]:
    """The rows at ``places``, as far as they exist. Raises StorageFailed."""
    fields = shown_fields(stored)
    columns = {field.partition(".")[0] if field not in stored.kept else field for field in fields}
    told = filter(None, (question.answers, question.probabilities, question.confidences))
    return {
        place: ShownRow(
            shown_texts(row, fields),
            question.own_choice(row),
            row.get(question.confidences) if question.confidences else None,
        )
        for place, row in stored.rows_at(places, {*columns, *told})
    }


class _Candidates:
    """The first rows, among all, in each of the two orders."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.population = 0
        self.told = False  # whether the model's confidence is known for any row
        self._files: dict[str, int] = {}
        # columns: file, row, size, first number, priority
        self._rows = np.zeros((0, 5))

    def add(self, file: str, rows: npt.NDArray[np.int64], confidences: Floats, seed: int) -> None:
        """Rows of one file that may be drawn; ``confidences``: the model's, NaN: not known."""
        if not len(rows):
            return
        self.population += len(rows)
        self.told |= bool(np.isfinite(confidences).any())
        digest = hashlib.blake2b(file.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        shard = int.from_bytes(digest, "little")
        first, doubt = numbers(seed, _RANDOM, shard, rows), sizes(confidences)
        priority = doubt / numbers(seed, _DOUBT, shard, rows)
        number = np.full(len(rows), self._files.setdefault(file, len(self._files)), float)
        new = np.column_stack([number, rows, doubt, first, priority])
        self._rows = np.concatenate([self._rows, new])
        if len(self._rows) > 2 * self._most:
            kept = {*self._first(3, 1), *self._first(4, -1)}
            self._rows = self._rows[sorted(kept)]

    def _first(self, column: int, sign: int) -> list[int]:
        order = np.argsort(sign * self._rows[:, column], kind="stable")
        first: list[int] = order[: self._most].tolist()
        return first

    def orders(self, *, doubt: bool) -> tuple[list[int], list[int]]:
        """The numbers of the first rows in each order."""
        return self._first(3, 1), self._first(4, -1) if doubt else []

    def priority(self, at: int) -> float:
        return float(self._rows[at, 4])

    def drawn(self, at: int, random: int | None, doubtful: int | None) -> DrawnRow:
        file, row, size, _, priority = self._rows[at].tolist()
        name = list(self._files)[int(file)]
        return DrawnRow(name, int(row), random, doubtful, size, priority, digest="")


def _candidates(
    table: pa.Table,
    stored: StoredRows,
    question: ReviewQuestion,
    gold: str | None,
    file: GoldFile | None,
) -> tuple[npt.NDArray[np.int64], Floats]:
    """The rows of one file's table that may be drawn, and their confidences. They have an answer,
    and no known right one: none in the column ``gold``, or of a key there that is in ``file``."""
    mask = table[question.answers].is_valid().to_numpy(zero_copy_only=False)
    if gold is not None and gold in table.column_names:
        right = table[gold] if file is None else pa.array(file.look_up(table[gold]), pa.string())
        mask = mask & right.is_null().to_numpy(zero_copy_only=False)
    mask = mask & ~ExampleRows(stored.job, stored.kept).among(table)
    rows = table[ROW].to_numpy()[mask]
    if question.confidences is None or question.confidences not in table.column_names:
        return rows, np.full(len(rows), np.nan)
    sure = plain_values(table[question.confidences].filter(pa.array(mask)))
    return rows, np.array(sure, float)
