"""`rackmill status`: how far a job is, told from its output alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pipeline.cli.console import OUT, print_json
from pipeline.cli.options import Json, OutputFolder

if TYPE_CHECKING:
    from pipeline.output.status import Status


def status_command(output: OutputFolder, as_json: Json = False) -> None:
    """Say how far a job is, whether a run is at work on it, and how to go on."""
    from pipeline.output.status import read_status
    from pipeline.storage.base import open_storage

    status = read_status(open_storage(output))
    if as_json:
        print_json(status.as_json() | {"next": _next(status, output)})
        return
    _print(status, output)


def _print(status: Status, output: str) -> None:
    from pipeline.engine.machine.card_notes import readings_in_words
    from pipeline.humanize import count, duration, plural, rate

    def line(name: str, text: str) -> None:
        OUT.print(f"  {name:<8} {text}")

    share = f" ({status.rows_done / status.rows:.0%})" if status.rows else ""
    OUT.print(
        f"{status.output} · {status.name} · {status.course} · {count(status.rows_done)} of "
        f"{plural(status.rows, 'row')}{share}, {count(status.units_done)} of "
        f"{plural(status.units, 'unit')}"
    )
    if status.errors:
        line("failed", " · ".join(f"{kind} {count(n)}" for kind, n in status.errors.items()))
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
    """The command that leads on; None when there is nothing to do."""
    from pipeline.output.commit.records import JOB
    from pipeline.output.status import Course
    from pipeline.report.fixes import next_step

    if status.alive:
        return f"rackmill cancel {output}" if status.course is Course.RUNNING else None
    if status.course is not Course.FINISHED:
        if "://" in output:
            return "run the same job again: it goes on from there"
        return f"rackmill run {output.rstrip('/')}/{JOB}"
    return next_step(status.errors, output)
