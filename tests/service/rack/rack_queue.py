"""The queue of a rack, as its users have it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.service.rack.conftest import Rack

_PATIENCE_SECONDS = 180.0


class Queue:
    """The rack's queue, from the laptop."""

    def __init__(self, rack: Rack) -> None:
        self.rack = rack

    def ask(self, command: str, *arguments: str) -> Any:
        done = self.rack.laptop.rackmill(
            command, *arguments, "--address", self.rack.address, "--json"
        )
        assert done.code == 0, done.err
        return done.json

    def submit(self, folder: Path, out: str, *arguments: str, step: float = 0.05) -> str:
        """The id of a job that writes into ``out``. ``step``: seconds; every 0.05 are some 13 s of
        work, and on a slow machine each question of a test takes some seconds, too."""
        given = ("--output", str(folder / out), "--name", out)
        pace = ("--set", f"engine.simulated.step_seconds={step}")
        job = str(folder / "job.yaml")
        return str(self.ask("submit", job, *given, *pace, *arguments)["id"])

    def job(self, job: str) -> dict[str, Any]:
        found: dict[str, Any] = next(j for j in self.ask("jobs")["jobs"] if j["id"] == job)
        return found

    def until(self, job: str, says: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not says(found := self.job(job)):
            waits = found["ended"] is None and time.monotonic() < deadline
            assert waits, f"{found}\n{self.log(job)}"
            time.sleep(2)  # each question is a process, which takes that long to start
        return found

    def begun(self, job: str, output: Path) -> None:
        self._seen(job, lambda: any(output.glob("[!.]*.parquet")))

    def ended(self, job: str, output: Path) -> dict[str, Any]:
        """Of a job that succeeds."""
        self._seen(job, (output / "_SUCCESS").exists)
        return self.until(job, lambda found: found["ended"] is not None)

    def _seen(self, job: str, there: Callable[[], bool]) -> None:
        """What is to be seen in its output needs no process that asks."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not there():
            assert time.monotonic() < deadline, f"{self.job(job)}\n{self.log(job)}"
            time.sleep(0.1)

    def log(self, job: str) -> str:
        return self.rack.laptop.rackmill("logs", job, "--address", self.rack.address).out
