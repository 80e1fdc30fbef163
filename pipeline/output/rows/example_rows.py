"""Rows that are also among a prompt's examples: the model can see their answers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.input.plain import rows_with_gaps
from pipeline.job.job import ANSWER, Job
from pipeline.job.template.field_text import as_shown
from pipeline.job.template.render import lookup


class ExampleRows:
    """Finds them in tables of the output, by the texts of the fields that the prompt reads."""

    def __init__(self, job: Job | None, kept: Collection[str]) -> None:
        """``kept``: the columns of the output that came from the input."""
        self.fields: tuple[str, ...] = ()
        self._known: set[tuple[str, ...]] = set()
        if job is None or not job.examples:
            return
        fields = tuple(f for f in job.prompt_fields if f != ANSWER)
        if all(f in kept or f.partition(".")[0] in kept for f in fields):
            self.fields = fields
            self._known = {tuple(as_shown(lookup(e, f)) for f in fields) for e in job.examples}

    def __bool__(self) -> bool:
        """Whether the job has examples, and the output the columns to find them."""
        return bool(self._known)

    @property
    def columns(self) -> list[str]:
        """The columns that are needed, if they exist."""
        return sorted({n for f in self.fields for n in (f, f.partition(".")[0])})

    def among(self, table: pa.Table) -> NDArray[np.bool_]:
        """Which rows of ``table`` are among the examples."""
        if not self._known:
            return np.zeros(table.num_rows, np.bool_)
        found = (texts in self._known for texts in _texts(table, self.fields))
        return np.fromiter(found, np.bool_, table.num_rows)


def _texts(table: pa.Table, fields: Sequence[str]) -> Iterator[tuple[str, ...]]:
    names = {f if f in table.column_names else f.partition(".")[0] for f in fields}
    for row in rows_with_gaps(table.select(sorted(names & set(table.column_names)))):
        yield tuple(as_shown(lookup(row, f)) for f in fields)
