"""The few rows that all unlike engines answer, to measure how far they agree."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pipeline.engine.protocol import Engine
from pipeline.errors import EngineFailed
from pipeline.input.reader import UnitReader
from pipeline.input.units import Unit
from pipeline.model.tokenizer import Tokenizer
from pipeline.output.columns.results import RowResult
from pipeline.output.shared_answers import SharedAnswers, read_shared, write_shared
from pipeline.prompt.builder import prompt_columns
from pipeline.storage.base import Storage
from pipeline.worker.answer_rows import Row, RowPlace, answer_rows
from pipeline.worker.coordination.messages import WorkerSpec

_log = logging.getLogger(__name__)


def answer_shared_rows(
    spec: WorkerSpec,
    storage: Storage,
    engine: Engine,
    tokenizer: Tokenizer,
    on_step: Callable[[], None],
) -> None:
    """Let ``engine`` answer ``spec.shared_rows``, unless an engine of its name has, and write its
    answers beside the output. A failure here does not matter: the job itself is done."""
    name = engine.facts.name(spec.model.quantization)
    if any(one.engine == name for one in read_shared(storage)):
        return
    reader = UnitReader(spec.shards, spec.input_schema)
    rows: list[Row] = []
    places: list[RowPlace] = []
    try:
        for part in spec.shared_rows:
            read = reader.read(Unit("", part.shard, part.start, part.stop))
            columns = prompt_columns(spec.job, read.table.column_names)
            values, _ = read.plain(columns).read(0, part.rows)
            rows += values
            file = spec.shards[part.shard].name
            places += [RowPlace(file, row) for row in range(part.start, part.stop)]
    finally:
        reader.close()
    try:
        results = answer_rows(spec.job, rows, places, engine, tokenizer, on_step)
    except EngineFailed as e:
        _log.warning("not known how far it agrees with the others: %s", e.message)
        return
    answers = {f"{p.file}:{p.row}": _answer(r) for p, r in zip(places, results, strict=True)}
    write_shared(storage, SharedAnswers(name, answers))


def _answer(result: RowResult) -> str | None:
    """The text that counts as the answer; None for an error."""
    if result.error is not None:
        return None
    told = [one.label or one.completion or "" for one in result.answers or (result,)]
    return "\n".join(told)
