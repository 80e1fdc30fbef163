"""A command on a real terminal: a pseudo-terminal of which it is the foreground job."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import secrets
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import pytest

from tests.support.processes import MARK, marked

_PATIENCE_SECONDS = 240.0
_CTRL_C = b"\x03"


def _sit_down() -> None:
    """In the command's process: the terminal is its own, and Ctrl-C is meant for it, also where
    the tests themselves run in the background of a shell."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """`rackmill` with ``arguments``, as someone would start it who sits before it."""

    def __init__(self, *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None):
        self._mark = secrets.token_hex(8)
        self._master, slave = pty.openpty()
        command = [str(Path(sys.executable).with_name("rackmill")), *arguments]
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=os.environ | {"TERM": "xterm"} | dict(environment or {}) | {MARK: self._mark},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_sit_down,
        )
        os.close(slave)
        self._seen = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def screen(self) -> str:
        """All that was ever written on it."""
        return self._seen.decode(errors="replace")

    def press_ctrl_c(self) -> None:
        os.write(self._master, _CTRL_C)

    def wait_until(self, reached: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not reached():
            if self.process.poll() is not None:
                pytest.fail(f"the command ended before {what}:\n{self.screen}")
            if time.monotonic() > deadline:
                self.close()
                pytest.fail(f"{what} did not happen:\n{self.screen}")
            time.sleep(0.02)

    def wait(self) -> int:
        """The exit code, when the command has ended."""
        try:
            code = self.process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.close()
            pytest.fail(f"the command did not end:\n{self.screen}")
        self._reader.join(5)
        return code

    def processes(self) -> list[psutil.Process]:
        return marked(self._mark)

    def gone(self, seconds: float) -> list[str]:
        """What still lives of it after so long; best nothing."""
        deadline = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return [str(process) for process in left]

    def close(self) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait()
        self._reader.join(5)
        os.close(self._master)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the other side is closed
            while chunk := os.read(self._master, 65536):
                self._seen += chunk
