"""The first rows of a job's input, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.driver.plan import InputPlan
from pipeline.driver.trial.answering import Row, RowPlace
from pipeline.input.reader import UnitReader
from pipeline.job.job import Job
from pipeline.job.sampling import SAMPLING_COLUMN
from pipeline.output.columns.gold import truth


def first_rows(
    inputs: InputPlan, number: int
) -> tuple[list[Row], list[RowPlace], list[str | None]]:
    """Of each of the first ``number`` rows what the prompt reads, where it stands, and the right
    answer where it is known. Raises StorageFailed, JobFailed."""
    job, files = inputs.job, inputs.files
    reader = UnitReader(files.shards, files.schema)
    rows: list[Row] = []
    places: list[RowPlace] = []
    golds: list[Any] = []
    wanted = _columns(job, files.schema.names)
    label = job.label
    try:
        for unit in inputs.units:
            few = min(number - len(rows), unit.rows)
            if few <= 0:
                break
            read = reader.read(type(unit)(unit.id, unit.shard, unit.start, unit.start + few))
            plain, _ = read.plain(wanted).read(0, few)
            rows += plain
            name = files.shards[unit.shard].name
            places += [RowPlace(name, unit.start + at) for at in range(few)]
            if label is not None and label.gold_column is not None:
                values = read.plain([label.gold_column]).read(0, few)[0]
                golds += [value.get(label.gold_column) for value in values]
    finally:
        reader.close()
    known = inputs.columns.gold_names
    right = [None if value is None else truth(value, known) for value in golds]
    return rows, places, right or [None] * len(rows)


def _columns(job: Job, names: Sequence[str]) -> list[str]:
    wanted = [f if f in names else f.split(".")[0] for f in job.prompt_fields]
    if job.score is not None and job.score.completion is not None:
        wanted.append(job.score.completion)
    if SAMPLING_COLUMN in names and job.score is None:
        wanted.append(SAMPLING_COLUMN)
    return list(dict.fromkeys(wanted))
