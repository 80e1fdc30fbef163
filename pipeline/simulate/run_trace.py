"""A trace file, or the output of a run as a trace: its requests, in their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.errors import UsageError
from pipeline.output.columns.answers_as_rows import by_row
from pipeline.printable import first_line
from pipeline.rows.trace import OPTIONAL, REQUIRED, TraceRow, rows_of
from pipeline.rows.workload import RequestShape, repeated, requests

if TYPE_CHECKING:
    import pyarrow.dataset as ds

REQUESTS = "requests"  # of the metadata ``rackmill.…``: a RequestShape
_RUN = {"prompt_tokens", "error"}  # columns of every run's output
_ANSWERS = "completion_tokens"  # of a job that writes; in a job that scores, a column of the input


@dataclass(frozen=True)
class Trace:
    """``shape``: for a run's output, what the run knew about its requests; None if that is
    missing. ``rows_of_run``: its rows without errors; for ``answered_once`` of them an equal row's
    answer was used. ``says_prefixes``: whether it is known which prompts begin alike."""

    rows: list[TraceRow]
    says_prefixes: bool
    shape: RequestShape | None = None
    rows_of_run: int = 0
    answered_once: int = 0

    @property
    def shared_tokens(self) -> float:
        """Tokens that a prompt has in common with another, on average."""
        ends = (row.inner[-1][1] if row.inner else row.prefix_tokens for row in self.rows)
        return sum(ends) / len(self.rows)


def read_trace(path: Path) -> Trace:
    """The requests in the Parquet file ``path``, or those of the run whose output it is.

    Raises UsageError, naming the file and what is wrong with it.
    """
    import pyarrow.dataset as ds  # loads pandas, where there is one: a quarter of a second

    if not path.exists():
        raise UsageError(f"trace: no such file: {path}")
    try:
        dataset = ds.dataset(path, format="parquet")  # skips names that begin with _
        names = dataset.schema.names
        if path.is_dir() and set(names) >= _RUN:
            return _of_run(dataset, path)
        known = [name for name in (*REQUIRED, *OPTIONAL) if name in names]
        table = dataset.to_table(columns=known)
    except (pa.ArrowException, OSError) as e:
        why = first_line(e)
        raise UsageError(f"trace: {path} cannot be read as Parquet: {why}") from None
    columns: dict[str, Any] = dict.fromkeys(names, ())
    columns |= {name: table.column(name).to_pylist() for name in table.column_names}
    return Trace(rows_of(columns, str(path)), "prefix_group" in columns)


def _of_run(dataset: ds.Dataset, path: Path) -> Trace:
    """The trace of a run: its rows without errors, without those that an equal row answered."""
    lengths: list[tuple[int, int]] = []
    asked = copies = 0
    shape: RequestShape | None = None
    for fragment in dataset.get_fragments():
        metadata = fragment.physical_schema.metadata or {}
        shape = shape or _shape(metadata, path)
        lengths += _rows(fragment, path, shape or RequestShape())
        copies += _number(metadata, "duplicates")
        asked += _number(metadata, "engine_requests")
    left_out = repeated(lengths, copies)
    computed = [length for row, length in enumerate(lengths) if row not in left_out]
    if not computed:
        raise UsageError(f"trace: {path} has no rows")
    per_row = max(1.0, asked / len(computed))
    rows = requests(shape or RequestShape(), computed, per_row)
    answers = shape.answers if shape else 1
    return Trace(rows, shape is not None, shape, len(lengths) // answers, len(left_out))


def _rows(fragment: ds.Fragment, path: Path, shape: RequestShape) -> list[tuple[int, int]]:
    """(prompt, completion) tokens of the successful rows, for each of their answers. If a row only
    has their sum, because they voted, they are taken as equally long."""
    answers = shape.answers
    writes = not shape.scores and _ANSWERS in fragment.physical_schema.names
    columns = ["prompt_tokens", *([_ANSWERS] if writes else [])]
    table = fragment.to_table(columns=[*columns, "error"])
    if shape.apart:
        table = by_row(table, answers)
    table = table.filter(table.column("error").is_null())
    if not table.num_rows:
        return []
    read = {name: table.column(name).to_pylist() for name in columns}
    prompts: list[Any] = []
    written: list[Any] = []
    for prompt, tokens in zip(
        read["prompt_tokens"], read.get(_ANSWERS, [1] * table.num_rows), strict=True
    ):
        one = tokens if isinstance(tokens, list) else [(tokens or 0) // answers] * answers
        written += [max(n or 0, 1) for n in one]
        prompts += [prompt] * len(one)
    checked = rows_of({"prompt_tokens": prompts, "output_tokens": written}, str(path))
    return [(row.prompt_tokens, row.output_tokens) for row in checked]


def _shape(metadata: Mapping[bytes, bytes], path: Path) -> RequestShape | None:
    text = metadata.get(f"rackmill.{REQUESTS}".encode())
    if text is None:
        return None
    try:
        return RequestShape.decode(text.decode())
    except ValueError as e:
        raise UsageError(f"trace: {path}: its metadata cannot be read: {e}") from None


def _number(metadata: Mapping[bytes, bytes], name: str) -> int:
    text = metadata.get(f"rackmill.{name}".encode(), b"0")
    return int(text) if text.isdigit() else 0
