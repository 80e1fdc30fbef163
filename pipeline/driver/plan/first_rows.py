"""The first rows of a job's input, to be looked at."""

from __future__ import annotations

from pipeline.driver.plan.plan import InputPlan
from pipeline.input.reader import UnitReader
from pipeline.input.units import Unit
from pipeline.output.columns.gold import names_of, truth
from pipeline.prompt.builder import prompt_columns
from pipeline.worker.answer_rows import Row, RowPlace


def first_rows(
    inputs: InputPlan, number: int
) -> tuple[list[Row], list[RowPlace], list[dict[str, str]]]:
    """Of each of the first ``number`` rows what the prompt reads, where it stands, and the right
    answers where they are known: by the question, as ``Job.graded`` has them in this order. Raises
    StorageFailed, JobFailed."""
    job, files = inputs.job, inputs.files
    reader = UnitReader(files.shards, files.schema)
    rows: list[Row] = []
    places: list[RowPlace] = []
    right: list[dict[str, str]] = []
    wanted = prompt_columns(job, files.schema.names)
    graded = {key.split(".")[-2]: one for key, one in job.graded.items() if one.gold_column}
    names = {name: names_of(one, files.schema) for name, one in graded.items()}
    try:
        for unit in inputs.units:
            few = min(number - len(rows), unit.rows)
            if few <= 0:
                break
            read = reader.read(Unit(unit.id, unit.shard, unit.start, unit.start + few))
            plain, _ = read.plain(wanted).read(0, few)
            rows += plain
            file = files.shards[unit.shard].name
            places += [RowPlace(file, unit.start + at) for at in range(few)]
            told = read.plain(list(job.gold_columns)).read(0, few)[0]
            right += [
                {
                    name: truth(value, names[name])
                    for name, one in graded.items()
                    if (value := values.get(one.gold_column or "")) is not None
                }
                for values in told
            ]
    finally:
        reader.close()
    return rows, places, right
