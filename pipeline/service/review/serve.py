"""The page on a port of loopback, until Ctrl-C."""

from __future__ import annotations

import os
import platform
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress

import uvicorn

from pipeline.errors import UsageError
from pipeline.service.review.page import page_app
from pipeline.service.review.session import ReviewSession

_HOST = "127.0.0.1"


def serve(
    session: ReviewSession, port: int | None, *, browser: bool, say: Callable[[str], None]
) -> None:
    """Serve until Ctrl-C. ``port`` None: any free one. ``say`` gets the address; with
    ``browser``, it is also opened in a browser if there is a screen.

    Raises UsageError if the port is taken.
    """
    listening = _listen(port)
    taken: int = listening.getsockname()[1]
    token = secrets.token_urlsafe(32)
    config = uvicorn.Config(
        page_app(session, token, taken),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=2,
    )
    address = f"http://{_HOST}:{taken}/?token={token}"
    with suppress(KeyboardInterrupt):  # the server raises it after it has ended
        say(address)  # who comes before the server is up waits for it
        if browser and has_screen():
            threading.Thread(target=_open, args=(address,), name="browser", daemon=True).start()
        uvicorn.Server(config).run(sockets=[listening])


def _listen(port: int | None) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((_HOST, port or 0))
        listening.listen()
    except OSError as e:
        listening.close()
        raise UsageError(
            f"--port {port}: {e.strerror or e}", "leave it away: a free one is taken"
        ) from None
    return listening


def has_screen() -> bool:
    """Whether a browser can be opened here."""
    screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(screen) or platform.system() != "Linux"


def _open(address: str) -> None:
    with suppress(webbrowser.Error, OSError):
        webbrowser.open(address)
