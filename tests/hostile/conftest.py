"""A place for each hostile input, a watch on what happens in it, and how rackmill must end."""

from __future__ import annotations

import contextlib
import faulthandler
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow.dataset as ds
import pytest

from tests.chaos.in_process import without_ray
from tests.hostile.inputs import Hostile

_PATIENCE_SECONDS = 120  # for what takes a fraction of a second, on a machine with other work
_MOST_MEMORY = 1 << 30  # bytes more than before
_CONTROLS = {chr(c) for c in range(32) if chr(c) != "\n"} | {chr(c) for c in range(127, 160)}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str
    errors: tuple[str, ...]  # types of the error rows in the output


@contextlib.contextmanager
def watched(seconds: float) -> Iterator[None]:
    """Fails what takes longer; what does not even listen to signals ends the whole process."""

    def over(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"still at it after {seconds} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(seconds + 60, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def peak_memory() -> int:
    """Of this process since its start, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Runs a command in ``tmp_path`` as the entry point does. Rows go through a worker in this
    process; Ray and vLLM are out of reach."""
    from pipeline.cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RACKMILL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # there is none: do not look for it
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # where a crash leaves its report
    for module in ("ray", "vllm", "pipeline.cluster.ray_cluster"):
        monkeypatch.setitem(sys.modules, module, None)

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["rackmill", *arguments])
        code: Any = 0
        with watched(_PATIENCE_SECONDS), without_ray():
            try:
                main()
            except SystemExit as e:
                code = e.code or 0
        out, err = capfd.readouterr()
        return Ended(code, out, err, _error_types(tmp_path / "out"))

    return run


@pytest.fixture
def face(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Ended]
) -> Callable[[Hostile], Ended]:
    """Lets rackmill meet a hostile input: it must end as it should, say so, and leave no traces
    but in its output."""

    def meet(case: Hostile) -> Ended:
        case.write(tmp_path)
        for name, value in case.environment.items():
            monkeypatch.setenv(name, value)
        before, memory = _files(tmp_path), peak_memory()
        ended = command(*case.command, *case.arguments)
        assert "Traceback" not in ended.err
        assert not list(tmp_path.glob("rackmill-crash-*")), ended.err
        assert ended.code == case.code, ended.err
        for words in case.says:
            assert words in ended.err
        assert not _CONTROLS & set(ended.err + ended.out)
        assert len(ended.err) < 10_000
        if ended.code == 2:
            assert any(line.startswith("error: ") for line in ended.err.splitlines())
            assert ended.out == ""
        assert sorted(ended.errors) == sorted(case.errors)
        assert _files(tmp_path) == before
        assert peak_memory() - memory < _MOST_MEMORY
        return ended

    return meet


def _files(place: Path) -> set[str]:
    """Everything in the place but the output and rackmill's own folder."""
    found = (str(path.relative_to(place)) for path in place.rglob("*"))
    return {name for name in found if name.split("/")[0] not in ("out", "home")}


def _error_types(output: Path) -> tuple[str, ...]:
    if not list(output.glob("*.parquet")):
        return ()
    errors = ds.dataset(output, format="parquet").to_table(columns=["error"])["error"].to_pylist()
    return tuple(error["type"] for error in errors if error)
