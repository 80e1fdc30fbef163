"""The part of an output that people are asked about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pipeline.output.columns.probabilities import WRITTEN
from pipeline.output.reviews.answers import Place
from pipeline.output.reviews.draw import ShownRow, rows_at
from pipeline.output.reviews.question import ReviewQuestion, question_of
from pipeline.output.reviews.sample import ReviewSample
from pipeline.output.reviews.samples import sample_for
from pipeline.output.rows.stored_rows import StoredRows
from pipeline.output.runs.status import need_finished
from pipeline.storage.base import Storage, open_storage


@dataclass(frozen=True)
class Material:
    """What is reviewed. ``rows``: the rows of the sample that are in the output."""

    storage: Storage
    question: ReviewQuestion
    sample: ReviewSample
    rows: Mapping[Place, ShownRow]

    @property
    def output(self) -> str:
        return self.storage.address()


def open_material(
    output: str,
    question: str | None,
    rows: int | None,
    note: Callable[[str], None] = lambda line: None,
) -> Material:
    """The sample of ``output``; it is drawn if there is none, or if more ``rows`` are asked for.
    ``note`` gets a line before something that takes long.

    Raises UsageError if the output cannot be reviewed, AlreadyRunning if it is being written.
    """
    stored = StoredRows(output)
    need_finished(output, note)
    asked = question_of(stored, question)
    storage = open_storage(output)
    sample = sample_for(storage, stored, asked, rows)
    shown = rows_at(stored, asked, {r.place for r in sample.rows})
    if shown and asked.probabilities and all(row.confidence is None for row in shown.values()):
        note(f"{WRITTEN}: the sample is drawn by chance alone")
    return Material(storage, asked, sample, shown)
