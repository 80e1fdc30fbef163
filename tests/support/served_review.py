"""The page of reviewers, served for tests, and browsers that speak to it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn

from pipeline.service.review.page import page_app
from pipeline.service.review.session import ReviewSession

TOKEN = "the-right-token"


@dataclass(frozen=True)
class Served:
    """A page that is served, and its session."""

    session: Any  # a session of whatever kind
    port: int
    stack: ExitStack  # closes its clients

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/?token={TOKEN}"

    def client(self, *, let_in: bool = True) -> httpx.Client:
        """A browser of this machine, with or without the address that was printed."""
        own = f"http://127.0.0.1:{self.port}"
        client = httpx.Client(base_url=own, headers={"Origin": own}, follow_redirects=True)
        self.stack.enter_context(client)
        if let_in:
            assert client.get(f"/?token={TOKEN}").status_code == 200
        return client


@contextmanager
def served(session: ReviewSession) -> Iterator[Served]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        config = uvicorn.Config(
            page_app(session, TOKEN, port), log_config=None, lifespan="off", ws="none"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            with ExitStack() as stack:
                yield Served(session, port, stack)
        finally:
            server.should_exit = True
            thread.join()
