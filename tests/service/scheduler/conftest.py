"""A web server that is told of runs."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from pipeline.service.scheduler import run_once as run_once
from pipeline.service.scheduler.notify import SIGNATURE


class Hook:
    """A web server that answers with these codes in turn, the last one for ever."""

    def __init__(self) -> None:
        self.codes = [204]
        self.taken: list[tuple[str | None, bytes]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.taken.append((self.headers.get(SIGNATURE), body))
                codes = outer.codes
                self.send_response(codes.pop(0) if len(codes) > 1 else codes[0])
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/hook"


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture(autouse=True)
def _no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is still writing what a test has written."""
    monkeypatch.setattr(run_once, "_SECOND_LOOK_SECONDS", 0.0)
