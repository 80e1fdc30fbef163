"""Whether a job's files of right answers can be used, found out before anything expensive."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import RackmillError, UsageError, unknown_column
from pipeline.input.reader import UnitReader
from pipeline.input.shards import InputFiles
from pipeline.input.units import Unit
from pipeline.job.job import Job
from pipeline.output.columns.results import OutputColumns
from pipeline.output.rows.gold_file import GoldFile, read_gold_file

_ROWS_AT_MOST = 200_000  # that are gone through for their keys: a plan is there within seconds


def check_gold_files(
    job: Job, files: InputFiles, columns: OutputColumns, units: Sequence[Unit]
) -> tuple[str, ...]:
    """What is to be said of them. Raises UsageError."""
    found: list[GoldFile] = []
    for asked in job.asked:
        gold = asked.graded.gold_file
        if gold is None:
            continue
        one = read_gold_file(gold, asked)
        if one.key not in files.schema.names:
            raise unknown_column(f"{one.says}.key names {one.key!r}", one.key, files.schema.names)
        kept = [old for old, _ in columns.kept]
        if one.key not in kept:
            raise UsageError(
                f"{one.says}.key: the column {one.key!r} is not kept in the output, where right "
                "answers are looked up",
                f"keep it: output: {{keep: [{', '.join([*kept, one.key])}]}}",
            )
        found.append(one)
    whole = sum(unit.rows for unit in units) == files.rows
    if not found or not whole or files.rows > _ROWS_AT_MOST:
        return ()
    _look_up(found, files, units)
    said = [one.check_found() for one in found]
    return tuple(line for line in said if line is not None)


def _look_up(found: Sequence[GoldFile], files: InputFiles, units: Sequence[Unit]) -> None:
    reader = UnitReader(files.shards, files.schema)
    try:
        for unit in units:
            table = reader.read(unit).table
            for one in found:
                one.look_up(table.column(one.key))
    except UsageError:
        raise
    except RackmillError as e:
        raise UsageError(e.message, *e.hints) from None
    finally:
        reader.close()
