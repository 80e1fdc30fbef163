"""Who may talk to Ray. Whoever reaches its ports can run programs on every machine of it.

A Ray that we start listens on loopback, and takes orders only from who has its token, which is
random and lives in the environment of its processes. A Ray on other machines is joined with the
token that it was started with; without one only if the user says that the network may be trusted.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError

TOKEN_MEND = (
    "copy the token of its head (ray get-auth-token) into ~/.ray/auth_token here, "
    "or into RAY_AUTH_TOKEN"
)
_MODE, _TOKEN, _TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


def check_access(address: str | None) -> None:
    """Raise UsageError if ``address`` is a Ray on the network, and no token is there for it."""
    if address is None or _is_here(address) or _mode() == "disabled" or _has_token():
        return
    raise UsageError(
        f"--address {address}: a Ray on the network is joined with its token, and there is none",
        TOKEN_MEND,
        "if all who reach its ports may run programs on its machines: RAY_AUTH_MODE=disabled",
    )


def prepare_access(address: str | None) -> None:
    """Turn token authentication on for this process and those of the Ray that it starts or joins,
    unless ``RAY_AUTH_MODE`` says otherwise."""
    if _mode():
        return
    if address is None and not _has_token():
        os.environ[_TOKEN] = secrets.token_hex(32)  # else Ray would keep one in the home folder
    if _has_token():
        os.environ[_MODE] = "token"
        if "ray" in sys.modules:  # it has read the environment already
            import ray._raylet as raylet

            settings: Any = raylet
            settings.Config.initialize("")


def _mode() -> str:
    return os.environ.get(_MODE, "").lower()


def _has_token() -> bool:
    if os.environ.get(_TOKEN):
        return True
    named = os.environ.get(_TOKEN_PATH)
    return (Path(named) if named else Path.home() / ".ray" / "auth_token").is_file()


def _is_here(address: str) -> bool:
    """Whether only processes of this machine can have started it: no host, or a loopback one."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return "." not in address  # "auto", "local"
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host in ("localhost", "")
