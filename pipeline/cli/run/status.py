"""`rackmill status`: a job's progress, read from its output only."""

from __future__ import annotations

import time
from itertools import groupby
from typing import TYPE_CHECKING

from pipeline.cli.options import Json, OutputFolder
from pipeline.cli.terminal.console import OUT, print_json
from pipeline.humanize import count, duration, plural, rate
from pipeline.output.commit.records import JOB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.output.growing.status import RunStatus
    from pipeline.output.runs.status import Status


def status_command(output: OutputFolder, as_json: Json = False) -> None:
    """Say how far a job is, whether a run is at work on it, why rows failed, and how to go on. Of
    a schedule's output: how each run is."""
    from pipeline.output.growing.status import is_schedules, read_statuses
    from pipeline.output.runs.status import read_status
    from pipeline.storage.base import open_storage

    if is_schedules(output):
        _show_runs(read_statuses(output), output, as_json=as_json)
        return
    status = read_status(open_storage(output))
    if as_json:
        print_json(status.as_json() | {"next": _next(status, output)})
        return
    _print(status, output)


def _show_runs(runs: Sequence[RunStatus], output: str, *, as_json: bool) -> None:
    from pipeline.report.trust.words import taken_back_words

    there = [run.status for run in runs if run.published and run.status]
    rows, failed = sum(s.rows_done for s in there), sum(s.failed for s in there)
    if as_json:
        about = {"output": output, "rows": rows, "failed": failed}
        print_json(about | {"runs": [run.as_json() for run in runs]})
        return
    schedules = ", ".join(sorted({run.schedule for run in runs}))
    OUT.print(
        f"{output} · schedule {schedules} · {plural(len(runs), 'run')} · {plural(rows, 'row')}"
        + (f", {count(failed)} failed" if failed else "")
    )
    for run in runs:
        status = run.status
        parts = [run.name]
        if status is None:
            parts.append("begun, nothing done yet")
        else:
            parts += [str(status.course)] if not run.published else []
            of = "" if run.published else f"{count(status.rows_done)} of "
            parts.append(f"{of}{plural(status.rows, 'row')}")
            parts += [f"{count(status.failed)} failed"] if status.failed else []
            parts += taken_back_words(status.taken_back)
        if not run.published:
            parts.append("not published yet")
        OUT.print("  " + " · ".join(parts))
        for line in [*_reason_lines(status), *_row_lines(status)] if status else ():
            OUT.print(f"      {line}")
    if failed:
        OUT.print(f"  see the rows: {_rows_that_failed(output)}")


def _rows_that_failed(output: str) -> str:
    return f"rackmill show {output} --errors"


def _reason_lines(status: Status) -> list[str]:
    """Each type of error, with its reasons."""
    lines = []
    for kind, number in status.errors.items():
        reasons = status.reasons.get(kind, {})
        if len(reasons) == 1:
            lines.append(f"{kind} {count(number)}: {next(iter(reasons))}")
            continue
        lines.append(f"{kind} {count(number)}")
        lines += [f"  {count(rows)}  {reason}" for reason, rows in reasons.items()]
    return lines


def _row_lines(status: Status) -> list[str]:
    """The first failed rows, one line per file."""
    lines = [
        f"{file}: {', '.join(count(row.row) for row in rows)}"
        for file, rows in groupby(status.first_failed, key=lambda row: row.file)
    ]
    if status.failed > len(status.first_failed):
        lines[-1:] = [f"{line}, …" for line in lines[-1:]]
    return lines


def _print(status: Status, output: str) -> None:
    from pipeline.engine.machine.card_notes import readings_in_words
    from pipeline.report.trust.words import taken_back_words

    def line(name: str, *texts: str) -> None:
        for text in texts:
            OUT.print(f"  {name:<8} {text}")
            name = ""

    share = f" ({status.rows_done / status.rows:.0%})" if status.rows else ""
    OUT.print(
        f"{status.output} · {status.name} · {status.course} · {count(status.rows_done)} of "
        f"{plural(status.rows, 'row')}{share}, {count(status.units_done)} of "
        f"{plural(status.units, 'unit')}"
    )
    line("failed", *_reason_lines(status))
    line("rows", *_row_lines(status))
    if status.errors:
        line("", _rows_that_failed(output))
    for words in taken_back_words(status.taken_back):
        line("labels", f"{words}: its rows differ; rackmill review {output}")
    run = status.run
    if run is not None:
        now = time.time()
        since = duration(max(0.0, now - run.started))
        if status.alive:
            speed = f", {rate(run.rows_per_second)} rows/s" if run.rows_per_second else ""
            left = f", {duration(run.seconds_left)} left" if run.seconds_left is not None else ""
            engines = plural(run.engines, "engine") if run.engines else "engines are loading"
            if run.waiting:
                engines, speed, left = "waiting", "", ""
            line("run", f"{run.place}, since {since}, {engines}{speed}{left}")
            if run.waiting:
                line("waits", run.waiting)
            elif cards := readings_in_words(run.watts, run.celsius, run.slowed):
                line("cards", ", ".join(cards))
        else:
            ago = duration(max(0.0, now - run.beat))
            line("last run", f"{run.place}, last heard of {ago} ago: {_end(run.state)}")
        if run.message:
            line("", run.message)
    advice = _next(status, output)
    if advice:
        line("next", advice)


def _end(state: str) -> str:
    words = {"ended": "done", "stopped": "stopped as it was asked to", "failed": "failed"}
    return words.get(state, "it died")


def _next(status: Status, output: str) -> str | None:
    """The command to continue with; None if there is nothing to do."""
    from pipeline.output.folder import OutputFolder
    from pipeline.output.runs.status import Course
    from pipeline.report.fixes import at_limit, next_step
    from pipeline.storage.base import open_storage

    if status.alive:
        return f"rackmill stop {output}" if status.course is Course.RUNNING else None
    if status.course is not Course.FINISHED:
        if "://" in output:
            return "run the same job again: it goes on from there"
        return f"rackmill run {output.rstrip('/')}/{JOB}"
    summary = OutputFolder(open_storage(output)).summary() or {}
    return next_step(status.errors, output, at_limit=at_limit(summary))
