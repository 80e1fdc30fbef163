"""Reads the rows of an output, with the input file and row that each came from."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import RackmillError, UsageError, did_you_mean, some_of
from pipeline.input.plain import rows_with_gaps
from pipeline.job.answer.questions import LABEL_COLUMNS, AskedQuestion
from pipeline.job.file.load import job_from
from pipeline.job.fingerprint import digest
from pipeline.job.job import Job
from pipeline.output.columns.answers_as_rows import NUMBER
from pipeline.output.columns.probabilities import ACCEPTED, PROBABILITIES, RAW_CONFIDENCE
from pipeline.output.columns.question_columns import confidence_in
from pipeline.output.columns.results import ENGINE
from pipeline.output.commit.records import OUTPUT_NAME
from pipeline.output.dataset import Dataset
from pipeline.output.growing.growing import parts_of
from pipeline.output.manifest import Manifest, manifest_of
from pipeline.output.reviews.answers import Place
from pipeline.rows.large_tables import take
from pipeline.storage.base import Storage

if TYPE_CHECKING:
    from pipeline.output.rows.right_answers import RightAnswers

# of the input, the first row is 0; no column of a user can have these names
FILE, ROW = "\0file", "\0row"
_SHOWN_AS = {FILE: "_file", ROW: "_row"}


@dataclass(frozen=True)
class _RunFolder:
    """The folder of one run."""

    storage: Storage
    manifest: Manifest

    def tables(self, columns: Collection[str] | None = None) -> Iterator[pa.Table]:
        """One table per file, with the columns FILE and ROW. ``columns``: which of the other
        columns (None: all)."""
        each = self.manifest.rows_of_one
        for path in sorted(p for p in self.storage.names("") if OUTPUT_NAME.fullmatch(p)):
            shard, _, start = PurePosixPath(path).stem.partition("-")
            entry = self.manifest.content.shards[int(shard)]
            content = self.storage.read(path)
            if content is None:
                continue  # it was replaced under another name meanwhile
            file = pq.ParquetFile(io.BytesIO(content))
            table = file.read(None if columns is None else list(columns))
            rows = int(start) + np.arange(table.num_rows) // each
            files = pa.DictionaryArray.from_arrays(
                pa.array(np.zeros(table.num_rows, np.int32)), [entry.called]
            )
            yield table.append_column(FILE, files).append_column(ROW, pa.array(rows, pa.int64()))


class StoredRows:
    """The rows of the output at an address: of one run, or of all runs of a schedule.

    Raises UsageError for a folder without an output of rackmill.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._parts: list[_RunFolder] = []
        job = None
        for storage in parts_of(address):
            dataset = Dataset(storage)
            manifest = manifest_of(dataset)
            if manifest is not None:
                self._parts.append(_RunFolder(storage, manifest))
                job = dataset.job() or job
        if not self._parts:
            raise UsageError(f"{address} holds no output of rackmill")
        self._job = job

    @cached_property
    def job(self) -> Job | None:
        """The job that was done last, if it is there and still valid."""
        try:
            return None if self._job is None else job_from(self._job)
        except RackmillError:
            return None

    @cached_property
    def schema(self) -> pa.Schema:
        """The schema that all rows fit into, without FILE and ROW."""
        schemas = [part.manifest.schema for part in self._parts]
        return pa.unify_schemas(schemas, promote_options="permissive")

    @property
    def input_fingerprint(self) -> str:
        """Differs if any input file differs, or if more or fewer of their rows are used."""
        contents = [part.manifest.content for part in self._parts]
        return digest([[content.parts.get("input"), content.rows] for content in contents])

    @property
    def answer_columns(self) -> tuple[str, ...]:
        """The columns that the model filled: the label or the answer to each question, the
        properties of a JSON schema, or the text."""
        questions = self._parts[-1].manifest.questions
        if questions:
            return tuple(one.columns.answer for one in questions)
        about = {"completion", "completions", "confidence", "finish_reason", "finish_reasons"}
        about |= {"prompt_tokens", "completion_tokens", "error", NUMBER, ENGINE}
        about |= {ACCEPTED, RAW_CONFIDENCE, PROBABILITIES, LABEL_COLUMNS.label_set}
        results = self._parts[-1].manifest.results
        told = [name for name in self.schema.names if name in results and name not in about]
        texts = [n for n in ("completion", "completions") if n in results]
        return tuple(told or texts)

    @property
    def kept(self) -> tuple[str, ...]:
        """The columns that came from the input, under their names in the output."""
        return tuple(new for _, new in self._parts[-1].manifest.kept)

    @property
    def asked_columns(self) -> tuple[str, ...]:
        """The kept columns that the prompt shows; all kept ones if it shows none of them."""
        fields = self.job.prompt_fields if self.job else ()
        return tuple(name for name in fields if name in self.kept) or self.kept

    def kept_as(self, column: str) -> str | None:
        """The output's name of an input column; None if it was not kept."""
        return self._parts[-1].manifest.kept_as(column)

    @cached_property
    def right_answers(self) -> RightAnswers:
        """The known right answers. Raises StorageFailed."""
        # here, because reviews need the rows themselves
        from pipeline.output.rows.right_answers import RightAnswers

        return RightAnswers(self)

    @property
    def input_schema(self) -> pa.Schema:
        """The columns of the last run's input."""
        return self._parts[-1].manifest.input_schema

    @cached_property
    def asked(self) -> tuple[AskedQuestion, ...]:
        """The questions with choices about each row."""
        return self._parts[-1].manifest.questions or (self.job.asked if self.job else ())

    def confidence(self, row: Mapping[str, Any]) -> float | None:
        """How probable the row's answer is; for several questions, the least probable answer."""
        if not self._parts[-1].manifest.questions:
            value = row.get("confidence")
            return value if isinstance(value, float) else None
        known = [sure for one in self.asked if (sure := confidence_in(one, row)) is not None]
        return min(known, default=None)

    def need_column(self, name: str) -> str:
        """Returns ``name``. Raises UsageError if the output has no such column."""
        if name not in self.schema.names:
            hints = f"columns: {some_of(self.schema.names)}", *did_you_mean(name, self.schema.names)
            raise UsageError(f"{self.address} has no column {name!r}", *hints)
        return name

    @cached_property
    def shown_names(self) -> dict[str, str]:
        """The names of FILE and ROW for users: ``_file`` and ``_row``. A name is left out if the
        output has such a column."""
        taken = {name.lower() for name in self.schema.names}  # as SQL compares names
        return {name: shown for name, shown in _SHOWN_AS.items() if shown not in taken}

    @property
    def seconds(self) -> float | None:
        """Duration of the run that wrote it, or of all runs of a schedule together."""
        told = [Dataset(part.storage).summary() or {} for part in self._parts]
        times = [t for one in told if isinstance(t := one.get("seconds"), int | float)]
        return sum(times) if times else None

    def tables(self, columns: Collection[str] | None = None) -> Iterator[pa.Table]:
        """All rows, in input order, a few thousand at a time, with the columns FILE and ROW.
        ``columns``: which of the other columns, as far as they exist (None: all). Raises
        StorageFailed."""
        for part in self._parts:
            yield from part.tables(columns)

    def rows_at(
        self, places: Iterable[Place], columns: Collection[str]
    ) -> Iterator[tuple[Place, dict[str, Any]]]:
        """The rows at ``places``, as far as they exist, in input order, with those of ``columns``
        that they have. Raises StorageFailed."""
        by_file: dict[str, list[int]] = {}
        for file, row in places:
            by_file.setdefault(file, []).append(row)
        wanted = {file: np.array(rows) for file, rows in by_file.items()}
        names = {FILE, ROW, *columns}
        for table in self.tables(names):
            if table.num_rows:  # all of one file
                hits = np.isin(table[ROW], wanted.get(table[FILE][0].as_py(), ()))
                shown = table.select([name for name in table.column_names if name in names])
                for one in rows_with_gaps(take(shown, np.flatnonzero(hits))):
                    yield (one[FILE], one[ROW]), one

    def first(self, rows: int) -> pa.Table:
        """The first rows, with FILE and ROW."""
        found: list[pa.Table] = []
        for table in self.tables():
            found.append(table.slice(0, rows - sum(map(len, found))))
            if sum(map(len, found)) >= rows:
                break
        return pa.concat_tables(found, promote_options="permissive") if found else pa.table({})
