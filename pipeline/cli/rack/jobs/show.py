"""Submitted jobs as text."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.cli.terminal.console import ERR, OUT, ProgressLine
from pipeline.engine.machine.card_notes import readings_in_words
from pipeline.humanize import count, duration, plural, rate

_SOME_FAILED = 3  # exit code of a run that did all rows, with some error rows


def print_submitted(job: Mapping[str, Any]) -> None:
    ahead = job["before"]
    place = f"{plural(ahead, 'job')} before it" if ahead else "nothing before it"
    for line in (
        f"{job['id']} is in the queue, {place} → {job['output']}",
        f"  see it   rackmill watch {job['id']}",
        f"  stop it  rackmill stop {job['id']}",
    ):
        ERR.print(line)


def print_jobs(jobs: Sequence[Mapping[str, Any]]) -> None:
    if not jobs:
        OUT.print("no jobs; rackmill submit JOB.yaml adds one")
    for job in jobs:
        OUT.print(in_one_line(job))


def in_one_line(job: Mapping[str, Any]) -> str:
    """A job's state in one line."""
    state = "STOPPING" if job["stopping"] else job["state"]
    parts = [f"{job['id']}  {state:<9}"]
    if job["priority"]:
        parts.append(f"priority {job['priority']}")
    if job["guest"]:
        parts.append("not submitted")
    parts += [_age(job), *course(job)]
    if job["message"]:
        parts.append(job["message"])
    return " · ".join([*parts, f"→ {job['output']}"])


def course(job: Mapping[str, Any]) -> list[str]:
    """Its progress, in a few words each; empty while it is unknown."""
    failed = [f"{count(job['failed'])} failed"] if job["failed"] else []
    if job["rows"] is None:
        return ["some rows failed"] if job["exit_code"] == _SOME_FAILED else []
    parts = [f"{count(job['rows_done'])} of {plural(job['rows'], 'row')}"]
    if job["state"] != "RUNNING":
        return [*parts, *failed]
    if job["waiting"]:
        return [*parts, f"waiting: {job['waiting']}"]
    parts.append(plural(job["engines"], "engine") if job["engines"] else "engines are loading")
    parts += readings_in_words(job["watts"], job["celsius"], job["slowed"] or 0)
    if job["rows_per_second"]:
        parts.append(f"{rate(job['rows_per_second'])} rows/s")
    parts += failed
    if job["seconds_left"] is not None:
        parts.append(f"{duration(job['seconds_left'])} left")
    return parts


def _age(job: Mapping[str, Any]) -> str:
    now = time.time()
    if job["ended"] is not None:
        took = duration(job["ended"] - job["submitted"])
        return f"ended {duration(max(0.0, now - job['ended']))} ago, after {took}"
    if job["state"] == "RUNNING":
        return f"runs since {duration(max(0.0, now - job['began']))}"
    return f"waits since {duration(max(0.0, now - job['submitted']))}"


class JobDisplay(ProgressLine):
    """A job's progress; prints a line when its state changes."""

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__()
        self._quiet, self._last_state = quiet, ""

    def show_job(self, job: Mapping[str, Any]) -> None:
        if self._quiet:
            return
        if job["state"] != self._last_state or job["ended"] is not None:
            self._last_state = job["state"]
            ERR.print(in_one_line(job))
            return
        self.show(" · ".join([job["id"], *course(job)]), job["rows_done"] or 0, job["rows"] or None)
