"""Who may talk to Ray. Anyone who reaches its ports can run programs on all its machines.

A Ray that we start listens on loopback, and accepts commands only with its token, which is random
and kept in the environment of its processes. A Ray on other machines is joined with the token that
it was started with; without a token only if the user says that the network may be trusted.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.cluster.ray_head import Head, look_at
from pipeline.errors import UsageError

TOKEN_MEND = (
    "copy the token of its head (ray get-auth-token) into ~/.ray/auth_token here, "
    "or into RAY_AUTH_TOKEN"
)
_TRUST = "if all who reach its ports may run programs on its machines: RAY_AUTH_MODE=disabled"
_LOOPBACK, _LOOPBACK_SECONDS = "127.0.0.1", 5.0
_OWN_HANDLER = "RAY_DISABLE_FAILURE_SIGNAL_HANDLER"
_MODE, _TOKEN, _TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


def check_access(address: str | None) -> None:
    """Raise UsageError if no Ray can be joined safely at ``address``; without an address, if a Ray
    of our own could not connect to itself."""
    if address is None:
        _check_loopback()
        return
    token, trusting = own_token(), _mode() == "disabled"
    if not (token or trusting or _is_here(address)):
        raise UsageError(
            f"{address}: a Ray on the network is joined with its token, and there is none",
            TOKEN_MEND,
            _TRUST,
        )
    head = _head(address, token)
    if head is Head.NOBODY:
        raise UsageError(
            f"{address}: no Ray answers there",
            "start one there: rackmill rack start --head",
        )
    if head is Head.STRANGER:
        raise UsageError(
            f"{address}: what answers there is no Ray",
            "the port is the one that rackmill rack start printed (6379 if nothing is said)",
        )
    if head is Head.LOCKED:
        ours = "the token that is here" if token else "anybody without its token"
        raise UsageError(f"{address}: this Ray does not take {ours}", TOKEN_MEND)
    if head is Head.OURS and trusting:
        raise UsageError(
            f"{address}: this Ray wants its token, and RAY_AUTH_MODE=disabled keeps it back",
            "unset RAY_AUTH_MODE",
        )
    if head is Head.OPEN and not (trusting or _is_here(address)):
        raise UsageError(
            f"{address}: this Ray takes orders from anybody: it was started without authentication",
            "start it anew: rackmill rack start --head, rackmill rack join on the others",
            _TRUST,
        )


def prepare_access(address: str | None) -> None:
    """Turn on token authentication for this process and for the Ray that it starts or joins, unless
    ``RAY_AUTH_MODE`` says otherwise, or it joins a Ray of this machine that has no token."""
    if _mode():
        return
    if address is not None and _head(address, None) is Head.OPEN:
        os.environ[_MODE] = "disabled"
        return
    if address is None and not own_token():
        os.environ[_TOKEN] = secrets.token_hex(32)  # otherwise Ray stores one in the home folder
    if own_token():
        os.environ[_MODE] = "token"
        if "ray" in sys.modules:  # it has already read the environment
            import ray._raylet as raylet

            settings: Any = raylet
            settings.Config.initialize("")


def _check_loopback() -> None:
    """Without this check, Ray would try to reach itself for two minutes."""
    try:
        with socket.create_server((_LOOPBACK, 0)) as server:
            socket.create_connection(server.getsockname(), timeout=_LOOPBACK_SECONDS).close()
    except OSError as e:
        raise UsageError(
            f"this machine does not reach itself at {_LOOPBACK}, where Ray listens: {e}",
            "switch the loopback interface on: sudo ip link set lo up",
            "in a container or sandbox: let it have one",
        ) from None


def _mode() -> str:
    return os.environ.get(_MODE, "").lower()


def own_token() -> str | None:
    """This machine's token, found as Ray finds it."""
    file = token_file()
    with suppress(OSError, UnicodeDecodeError):
        return os.environ.get(_TOKEN) or file.read_text(encoding="utf-8").strip() or None
    return None


def token_file() -> Path:
    """The file in which Ray looks for it."""
    named = os.environ.get(_TOKEN_PATH)
    return Path(named) if named else Path.home() / ".ray" / "auth_token"


def import_ray() -> None:
    """Import Ray, set to leave signals alone in this process only: otherwise its SIGTERM handler
    ends us after three seconds, whatever ours does."""
    before = os.environ.get(_OWN_HANDLER)
    os.environ[_OWN_HANDLER] = "1"  # Ray reads it when it is imported
    try:
        import ray  # noqa: F401
    finally:
        if before is None:
            del os.environ[_OWN_HANDLER]
        else:
            os.environ[_OWN_HANDLER] = before


def _head(address: str, token: str | None) -> Head | None:
    """What answers at HOST:PORT; None for other forms of addresses, which Ray resolves."""
    host, _, port = address.rpartition(":")
    if "://" in address or not port.isdigit() or not host:
        return None
    return look_at(address, token)


def _is_here(address: str) -> bool:
    """Whether only processes of this machine can have started it: no host, or loopback."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return "." not in address  # "auto", "local"
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host in ("localhost", "")
