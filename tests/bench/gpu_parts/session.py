"""Child processes that measure: started, listened to, watched, and ended in time."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from gpu_parts.board import Board, Watch, seconds_until_free

_HERE = Path(__file__).parent
# as the children say it
_MARK, _SO_FAR, NO_ENGINE = "rackmill-part: ", "so far", "no_engine"
_GONE_SECONDS = 60.0  # that memory may take to come free
_SLACK_BYTES = 128 << 20  # by which a card's memory may be above what it was
_LAST_LINES = 3

Found = dict[str, Any]


class Child:
    """A process of ``script`` that was given ``order``. Its other output goes to ``log``."""

    def __init__(
        self, script: str, order: Mapping[str, Any], environment: Mapping[str, str], log: Path
    ) -> None:
        self._log = log
        self.command = f"{Path(sys.executable).name} {_HERE / script} < order"
        self.so_far: Found = {}  # of the part that it is at
        self._lines: queue.Queue[str | None] = queue.Queue()
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, str(_HERE / script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | environment,
                text=True,
            )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({**order, "began": time.time()}))
        self._process.stdin.close()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines, self._log.open("a", encoding="utf-8") as log:
            for line in lines:
                if line.startswith(_MARK):
                    self._lines.put(line.removeprefix(_MARK))
                elif line.strip():
                    log.write(line)
                    log.flush()
        self._lines.put(None)

    @property
    def pid(self) -> int:
        return self._process.pid

    def next(self, seconds: float) -> Found | None:
        """The next part that it is done with; None: it ended. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise TimeoutError from None
            if line is None:
                return None
            found: Found = json.loads(line)
            part = found.pop("part")
            if part == _SO_FAR:
                self.so_far = found
            elif part == "begun":
                self.so_far = {}
            else:
                return found

    def core(self) -> int | None:
        """The process of vLLM's engine core; None where it is this one."""
        for one in psutil.Process(self.pid).children(recursive=True):
            words = " ".join([one.name(), *one.cmdline()])
            if "EngineCore" in words:
                return int(one.pid)
        return None

    def end(self) -> None:
        """Whatever it is at; its guard ends what it leaves behind."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join(_GONE_SECONDS)  # until the last of its children is gone

    def last_words(self) -> str:
        """Of its log: the errors that it names, else how it ends."""
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines()]
        errors = [line for line in lines if "Error: " in line or line.startswith("error:")]
        return " | ".join((errors or [line for line in lines if line])[-_LAST_LINES:])[-600:]


def measure(
    script: str,
    order: Mapping[str, Any],
    environment: Mapping[str, str],
    limits: Sequence[float],
    board: Board,
    log: Path,
) -> dict[str, Found]:
    """The parts of ``order``, one process for them: part -> what was found, or its ``error``. Where
    that process is of no use for those that come after an error, they are left out.

    ``limits``: seconds of each part; loading counts to the first.
    """
    found: dict[str, Found] = {}
    before = board.used_bytes()
    child = Child(script, order, environment, log)
    try:
        with Watch(board, child.pid) as watch:
            for part, limit in zip(order["parts"], limits, strict=True):
                started = time.monotonic()
                said = _heard(child, limit)
                found[part] = said | {
                    "seconds": round(time.monotonic() - started, 1),
                    "peak_bytes": watch.peak_bytes,
                    "bytes_before": before,
                }
                if "error" in said and not said.get(NO_ENGINE):
                    break
    finally:
        child.end()
        if board.is_card:  # else the next one would find too little
            seconds_until_free(board, child.pid, before + _SLACK_BYTES, _GONE_SECONDS)
    return found


def _heard(child: Child, seconds: float) -> Found:
    """What it says of its next part, or as much as there was when it failed, with the ``error``."""
    try:
        said = child.next(seconds)
    except TimeoutError:
        return child.so_far | {"error": f"not done after {seconds:.0f} s"}
    if said is None:
        return child.so_far | {"error": f"its process ended: {child.last_words()}"}
    return said


def killed(
    order: Mapping[str, Any],
    environment: Mapping[str, str],
    limit: float,
    board: Board,
    log: Path,
    victim: str,
) -> Found:
    """SIGKILL for an engine's ``victim`` (core or worker) amid its steps: until the other notices,
    and until the memory is free."""
    before = board.used_bytes()
    child = Child("engine_child.py", {**order, "parts": ["hold"]}, environment, log)
    try:
        try:
            said = child.next(limit)
        except TimeoutError:
            return {"error": f"not at work after {limit:.0f} s"}
        if said is None or "error" in said:
            return {"error": (said or {}).get("error") or child.last_words()}
        held = board.used_bytes(child.pid)
        core = child.core()
        pid = core if victim == "core" else child.pid
        if pid is None:
            return {"error": "the core is no process of its own"}
        time.sleep(0.5)
        os.kill(pid, signal.SIGKILL)
        at, began = time.time(), time.monotonic()
        if board.is_card:
            free = seconds_until_free(board, pid, before + _SLACK_BYTES, _GONE_SECONDS)
        elif victim == "core":  # what its worker holds goes with the worker
            free = seconds_until_free(board, child.pid, held // 2, _GONE_SECONDS)
        else:
            free = _until_gone(core, _GONE_SECONDS)
        found: Found = {"held_bytes": held, "bytes_before": before}
        found["memory_free_seconds"] = None if free is None else round(free, 2)
        if victim == "core":
            with suppress(TimeoutError):
                heard = child.next(max(0.1, _GONE_SECONDS - (time.monotonic() - began))) or {}
                found["noticed"] = heard.get("noticed")
                if "at" in heard:
                    found["noticed_seconds"] = round(heard["at"] - at, 2)
        return found
    finally:
        child.end()


def _until_gone(pid: int | None, most: float) -> float | None:
    """Until the process ``pid`` is no more: without a card its memory is free then."""
    began = time.monotonic()
    while time.monotonic() - began < most:
        if pid is None or not psutil.pid_exists(pid):
            return time.monotonic() - began
        time.sleep(0.05)
    return None
