"""This machine's place in a rack, kept in a file so that `rackmill rack stop` can end it."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from pipeline.user_folder import state_folder

_CLOCK_SLACK = 2.0
_STOP_SECONDS = 30.0
_LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class RackRecord:
    """``pid``, ``began`` (epoch seconds): of the process that keeps Ray running here. ``address``:
    of the rack's head; ``host``: this machine's own address."""

    pid: int
    began: float
    address: str
    host: str
    is_head: bool
    name: str

    @property
    def alive(self) -> bool:
        return self._process() is not None

    def stop(self) -> None:
        """End this process and all that it started, but no other Ray."""
        keeper = self._process()
        if keeper is None:
            return
        with suppress(psutil.NoSuchProcess):
            below = keeper.children(recursive=True)
            keeper.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + _STOP_SECONDS
            while time.monotonic() < deadline and self._process() is not None:
                time.sleep(_LOOK_SECONDS)
            for process in [keeper, *below]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def _process(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.began) < _CLOCK_SLACK
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


def _file() -> Path:
    return state_folder() / "rack.json"


def write_own_record(address: str, host: str, name: str, *, is_head: bool) -> None:
    """Write down that this process keeps the machine in the rack."""
    began = psutil.Process().create_time()
    record = RackRecord(os.getpid(), began, address, host, is_head, name)
    path = _file()
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(record)), encoding="utf-8")
    fresh.replace(path)


def read_record() -> RackRecord | None:
    """This machine's place in a rack; None if it has none (any more)."""
    try:
        record = RackRecord(**json.loads(_file().read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return record if record.alive else None


def forget_record() -> None:
    with suppress(OSError):
        _file().unlink()
