"""A ``llama-server`` of our own, from its start to its end."""

from __future__ import annotations

import collections
import secrets
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence

from pipeline.engine.failure.oom_errors import out_of_memory, shortage_in
from pipeline.engine.llama_cpp.binary import Binary
from pipeline.errors import EngineFailed

_POLL_SECONDS = 0.1
_END_SECONDS = 10.0
_LINES = 40


class LlamaProcess:
    """Listens on a free port of this machine, to whoever has the key. Workers' children end with
    them (``child_guard``)."""

    def __init__(self, binary: Binary, arguments: Sequence[str]) -> None:
        """Raises EngineFailed."""
        self.key = secrets.token_urlsafe(24)
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        where = ["--host", "127.0.0.1", "--port", str(port)]
        try:
            self._process = subprocess.Popen(
                [binary.path, *where, *arguments],
                env=binary.environment | {"LLAMA_API_KEY": self.key},  # `ps` shows no environment
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        except OSError as e:
            raise EngineFailed(f"{binary.path} cannot be started: {e}") from None
        self._said: collections.deque[str] = collections.deque(maxlen=_LINES)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said.append(line.decode(errors="replace").rstrip())

    def wait(self, most: float) -> None:
        """Until it has loaded its model. Raises EngineFailed."""
        deadline = time.monotonic() + most
        while not self._healthy():
            if self._process.poll() is not None:
                self._reader.join(1.0)
                raise self._failure()
            if time.monotonic() > deadline:
                raise EngineFailed(f"llama-server was not ready after {most:g} s")
            time.sleep(_POLL_SECONDS)

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False  # 503 while it loads

    def _failure(self) -> EngineFailed:
        errors = [line for line in self._said if " E " in line or "error" in line.lower()]
        reason = "; ".join(errors[-2:]) or (self._said[-1] if self._said else "it said nothing")
        message = f"llama-server ended while it loaded: {reason}"
        return EngineFailed(message) if shortage_in(reason) is None else out_of_memory(message)

    def end(self) -> None:
        """It gives its memory back."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._reader.join()
        if self._process.stderr is not None:
            self._process.stderr.close()

    @property
    def pid(self) -> int:
        return self._process.pid


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
