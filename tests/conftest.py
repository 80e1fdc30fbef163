"""What tests of whole commands share: the real model, small inputs, and ways to run rackmill.

``ask`` runs a command in this process with Ray and vLLM out of reach: for everything that must
be answered without them. ``launcher`` runs the real command as a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from pipeline.model.store import ModelFolder, resolve

_MARK = "RACKMILL_TEST_RUN"  # an environment variable that every process of one run inherits
_PATIENCE_SECONDS = 240.0


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


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
                | {_MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What came on stdout and stderr up to now, for failure messages."""
        return self._out.read_text() + self._err.read_text()

    def processes(self) -> list[psutil.Process]:
        """Every living process of this run: the command, and the Ray that it started."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                dead = process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
                if not dead and process.environ().get(_MARK) == self._mark:
                    found.append(process)
        return found

    def workers(self) -> list[psutil.Process]:
        """The processes in which engines run."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if any("_WorkerActor" in part for part in process.cmdline()[:1]):
                    found.append(process)
        return found

    def wait_until(self, reached: Callable[[], bool], what: str) -> None:
        """Wait for something to happen while the command runs."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not reached():
            if self.process.poll() is not None:
                pytest.fail(f"the command ended before {what}:\n{self.output}")
            if time.monotonic() > deadline:
                self.kill_all()
                pytest.fail(f"{what} did not happen in {_PATIENCE_SECONDS} s:\n{self.output}")
            time.sleep(0.02)

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
        return self._start([sys.executable, *map(str, arguments)], cwd, environment).wait()

    def _start(self, command: list[str], cwd: Path, environment: Mapping[str, str]) -> Started:
        started = Started(command, cwd, environment)
        self._started.append(started)
        return started

    def close(self) -> None:
        for started in self._started:
            started.kill_all()


@pytest.fixture(scope="session", autouse=True)
def _no_one_learns_from_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Runs of tests do not go into the user's profile, nor does it change what tests see."""
    os.environ["RACKMILL_PROFILE"] = str(tmp_path_factory.mktemp("profile") / "profile.jsonl")


@pytest.fixture(scope="session")
def model() -> ModelFolder:
    """Gemma 3 270M in int4; converted once a machine."""
    return resolve("gemma-3-270m")


@pytest.fixture(scope="session")
def launcher(model: ModelFolder) -> Iterator[Launcher]:
    """Runs commands; whatever they leave behind is stopped in the end."""
    launcher = Launcher()
    yield launcher
    launcher.close()


@pytest.fixture
def ask(
    model: ModelFolder,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Callable[..., Finished]:
    """Runs a command in ``tmp_path``; importing Ray or vLLM there fails."""
    from pipeline.cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # where a crash leaves its report
    for module in ("ray", "vllm", "pipeline.fleet.cluster"):
        monkeypatch.setitem(sys.modules, module, None)

    def run(*arguments: object) -> Finished:
        monkeypatch.setattr(sys, "argv", ["rackmill", *map(str, arguments)])
        code: Any = 0
        try:
            main()
        except SystemExit as e:
            code = e.code or 0
        out, err = capfd.readouterr()
        return Finished(code, out, err)

    return run


_TOPICS = ("flight", "bag", "crew", "seat", "delay")


def tweets(rows: int, start: int = 0) -> pa.Table:
    """Rows with an ``id`` that counts from ``start`` and a ``text`` of its own for each."""
    ids = list(range(start, start + rows))
    return pa.table(
        {
            "id": ids,
            "text": [f"tweet {i} about a {_TOPICS[i % len(_TOPICS)]}" for i in ids],
            "sentiment": ["negative" if i % 3 else "positive" for i in ids],
        }
    )


@pytest.fixture(scope="session")
def make_tweets() -> Callable[..., pa.Table]:
    return tweets


@pytest.fixture(scope="session")
def write_shards() -> Callable[..., Path]:
    """Writes ``shard-N.parquet`` files with so many tweets each into a folder."""

    def write(folder: Path, *rows: int) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        start = 0
        for number, count in enumerate(rows):
            pq.write_table(tweets(count, start), folder / f"shard-{number}.parquet")
            start += count
        return folder

    return write


@pytest.fixture(scope="session")
def read_output() -> Callable[[Path], pa.Table]:
    """Reads an output folder as any Parquet reader would: one dataset, files in name order."""

    def read(folder: Path) -> pa.Table:
        return pyarrow.dataset.dataset(folder, format="parquet").to_table()

    return read


@pytest.fixture(scope="session")
def files_of() -> Callable[[Path], dict[str, tuple[bytes, int]]]:
    """An output folder's data files: name -> (content, time of change in ns)."""

    def files(folder: Path) -> dict[str, tuple[bytes, int]]:
        found = sorted(folder.glob("*.parquet"))
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in found}

    return files
