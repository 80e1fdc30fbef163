"""Runs of schedules, each in its own process: if a run crashes, the service does not."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TextIO

from pipeline.logs import last_words
from pipeline.service.scheduler.schedule_db import Run, RunEnd, RunState, StoredSchedule

_STOP_SECONDS = 120.0  # a run's own grace is shorter
_PR_SET_PDEATHSIG = 1
_FINISHED = (0, 3)
_LOOK_SECONDS = 0.2


class RunProcess:
    """A run in another process. ``state``: the database's file; the run's output is kept in
    ``logs`` beside it. ``address``: of a Ray to join."""

    def __init__(
        self, state: Path, schedule: StoredSchedule, run: Run, address: str | None = None
    ) -> None:
        logs = _logs(state, schedule.name)
        logs.mkdir(parents=True, exist_ok=True)
        stem = f"{run.due:%Y-%m-%dT%H-%M-%S-%f}"
        self.log, self._answer = logs / f"{stem}.log", logs / f"{stem}.json"
        command = [sys.executable, "-P", "-m", "pipeline.cli.main", "schedule", "run-once"]
        command += [schedule.name, run.due.isoformat(), str(os.getpid()), "--state", str(state)]
        command += ["--full"] if run.full else []
        command += ["--address", address] if address else []
        with self.log.open("ab") as log, self._answer.open("wb") as answer:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=log,
                start_new_session=True,
            )

    def ended(self) -> RunEnd | None:
        """How it ended; None while it goes on."""
        code = self._process.poll()
        if code is None:
            return None
        if code in _FINISHED:
            return RunEnd(RunState.SUCCEEDED, json.loads(self._answer.read_bytes() or b"{}"))
        why = last_words(self.log, f"exit code {code}")
        return RunEnd(RunState.FAILED, reason=f"{why} (see {self.log})")

    def wait(self, say: TextIO) -> RunEnd:
        """Wait until it ends, and repeat what it says; Ctrl-C stops it gracefully."""
        shown = 0
        while True:
            ended = self.ended()
            with self.log.open(encoding="utf-8", errors="replace") as log:
                log.seek(shown)
                say.write(log.read())
                shown = log.tell()
            if ended is not None:
                return ended
            try:
                time.sleep(_LOOK_SECONDS)
            except KeyboardInterrupt:
                self._process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Stop it gracefully, and wait until it has ended; what it has committed stays."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def last_log(state: Path, name: str) -> Path | None:
    """The log of the newest run of a schedule; None if there was none."""
    return max(_logs(state, name).glob("*.log"), default=None)


def _logs(state: Path, name: str) -> Path:
    return state.parent / "logs" / name


def end_with(parent: int) -> None:
    """Have this process stopped (SIGTERM) when its parent ends. Linux only; elsewhere it goes on,
    and the next run waits for it."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before we asked
        os.kill(os.getpid(), signal.SIGTERM)
