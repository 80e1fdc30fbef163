"""Submitted jobs for people."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console

from pipeline.cli.bar import make_bar
from pipeline.engine.machine.card_notes import readings_in_words
from pipeline.humanize import count, duration, plural, rate

_PLAIN_SECONDS = 5.0


def print_submitted(console: Console, job: Mapping[str, Any]) -> None:
    ahead = job["before"]
    place = f"{plural(ahead, 'job')} before it" if ahead else "nothing before it"
    for line in (
        f"{job['id']} is in the queue, {place} → {job['output']}",
        f"  see it   rackmill watch {job['id']}",
        f"  stop it  rackmill stop {job['id']}",
    ):
        console.print(line, markup=False, soft_wrap=True)


def print_jobs(console: Console, jobs: Sequence[Mapping[str, Any]]) -> None:
    if not jobs:
        console.print("no jobs; rackmill submit JOB.yaml adds one")
    for job in jobs:
        console.print(in_one_line(job), markup=False, soft_wrap=True)


def in_one_line(job: Mapping[str, Any]) -> str:
    """How a job is."""
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
    """How far it is, in a few words each; empty as long as nobody knows."""
    if job["rows"] is None:
        return []
    parts = [f"{count(job['rows_done'])} of {plural(job['rows'], 'row')}"]
    if job["waiting"]:
        return [*parts, f"waiting: {job['waiting']}"]
    parts.append(plural(job["engines"], "engine") if job["engines"] else "engines are loading")
    parts += readings_in_words(job["watts"], job["celsius"], job["slowed"] or 0)
    if job["rows_per_second"]:
        parts.append(f"{rate(job['rows_per_second'])} rows/s")
    if job["failed"]:
        parts.append(f"{count(job['failed'])} failed")
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


class JobDisplay:
    """A line that changes in place on a terminal; elsewhere one now and then."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console, self._quiet = console, quiet
        self._bar = make_bar(console) if console.is_terminal and not quiet else None
        self._last_state, self._last = "", 0.0

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar[0].stop()

    def show(self, job: Mapping[str, Any], now: float) -> None:
        """``now``: epoch seconds."""
        if self._quiet:
            return
        if job["state"] != self._last_state or job["ended"] is not None:
            self._last_state = job["state"]
            self._console.print(in_one_line(job), markup=False, soft_wrap=True)
            return
        details = " · ".join([job["id"], *course(job)])
        if self._bar is not None:
            live, task = self._bar
            total = job["rows"] or None
            live.update(task, visible=True, description=details, total=total)
            live.update(task, completed=job["rows_done"] or 0)
        elif now - self._last >= _PLAIN_SECONDS:
            self._last = now
            self._console.print(f"  {details}", markup=False)
