"""Commands as processes of their own, and every process that they started."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

MARK = "RACKMILL_TEST_RUN"  # an environment variable that every process of one run inherits
_PATIENCE_SECONDS = 480.0  # real engines on slow cores take minutes


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def marked(mark: str) -> list[psutil.Process]:
    """Every living process that began with ``mark`` in its environment, or comes from one."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            dead = process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
            if not dead and process.environ().get(MARK) == mark:
                found.append(process)
    return found


def called(processes: Iterable[psutil.Process], name: str) -> list[psutil.Process]:
    """Those with ``name`` in their title: Ray gives an actor's process the name of its class."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if any(name in part for part in process.cmdline()[:1]):
                found.append(process)
    return found


class Started:
    """A command that runs as a process of its own, in its own session."""

    def __init__(self, arguments: list[str], cwd: Path, environment: Mapping[str, str]) -> None:
        self._mark = secrets.token_hex(8)
        self._out, self._err = (cwd / f".{self._mark}.{name}" for name in ("out", "err"))
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                arguments,
                cwd=cwd,
                env={k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
                | environment
                | {MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        """What came on stdout up to now."""
        return self._out.read_text()

    @property
    def output(self) -> str:
        """What came on stdout and stderr up to now, for failure messages."""
        return self._out.read_text() + self._err.read_text()

    def processes(self) -> list[psutil.Process]:
        """Every living process of this run: the command, and the Ray that it started."""
        return marked(self._mark)

    def workers(self) -> list[psutil.Process]:
        """The processes in which engines run."""
        return called(self.processes(), "WorkerActor")

    def cores(self) -> list[psutil.Process]:
        """vLLM's cores, where they have processes of their own. They give themselves a title, over
        the environment that ``marked`` looks for: they are found as long as their parents live."""
        children = {}
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                children |= {child.pid: child for child in process.children(recursive=True)}
        return called(children.values(), "EngineCore")

    def wait_until(self, reached: Callable[[], bool], what: str) -> None:
        """Wait for something to happen while the command runs."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            began = time.monotonic()
            if reached():
                return
            took = time.monotonic() - began
            if self.process.poll() is not None:
                pytest.fail(f"the command ended before {what}:\n{self.output}")
            if time.monotonic() > deadline:
                self.kill_all()
                pytest.fail(f"{what} did not happen in {_PATIENCE_SECONDS} s:\n{self.output}")
            # to look at all processes shall not take the time of those that are waited for
            time.sleep(min(0.2, max(0.02, 4 * took)))

    def kill_driver(self) -> None:
        """kill -9 of the command alone; what it started may live on for a while."""
        self.process.kill()
        self.process.wait()

    def kill_all(self) -> None:
        """kill -9 of every process of the run, as a power cut would do it."""
        for _ in range(100):
            left = self.processes()
            if not left:
                break
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGKILL)
            time.sleep(0.05)
        self.process.wait()

    def gone(self, seconds: float) -> list[str]:
        """The processes that still live after waiting ``seconds`` for them to end; best none."""
        deadline = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return [str(process) for process in left]

    def wait(self) -> Finished:
        """Wait for the command to end."""
        try:
            code = self.process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill_all()
            pytest.fail(f"the command did not end in {_PATIENCE_SECONDS} s:\n{self.output}")
        return Finished(code, self._out.read_text(), self._err.read_text())


class Launcher:
    """Runs the installed `rackmill` command, or Python."""

    def __init__(self) -> None:
        self._started: list[Started] = []

    def start(self, *arguments: object, cwd: Path, **environment: str) -> Started:
        command = str(Path(sys.executable).with_name("rackmill"))
        return self._start([command, *map(str, arguments)], cwd, environment)

    def run(self, *arguments: object, cwd: Path, **environment: str) -> Finished:
        return self.start(*arguments, cwd=cwd, **environment).wait()

    def python(self, *arguments: object, cwd: Path, **environment: str) -> Finished:
        return self.start_python(*arguments, cwd=cwd, **environment).wait()

    def start_python(self, *arguments: object, cwd: Path, **environment: str) -> Started:
        return self._start([sys.executable, *map(str, arguments)], cwd, environment)

    def _start(self, command: list[str], cwd: Path, environment: Mapping[str, str]) -> Started:
        started = Started(command, cwd, environment)
        self._started.append(started)
        return started

    def close(self) -> None:
        for started in self._started:
            started.kill_all()
