"""Sends a notice that a run has ended: to a webhook, or to a command."""

from __future__ import annotations

import hashlib
import hmac
import json
import shlex
import subprocess
from collections.abc import Mapping
from typing import Any

import httpx
from pydantic import SecretStr
from tenacity import Retrying, retry_if_exception, stop_after_delay
from tenacity.wait import wait_exponential_jitter

SIGNATURE = "X-Rackmill-Signature"
SECRET = "RACKMILL_WEBHOOK_SECRET"
_PATIENCE_SECONDS = 300.0
_ANSWER_SECONDS = 10.0
_COMMAND_SECONDS = 60.0
_PASSES = frozenset({408, 425, 429, 500, 502, 503, 504})


def signature(body: bytes, secret: SecretStr) -> str:
    """``sha256=`` and the HMAC of the body in hex, which the receiver can compute too."""
    return (
        "sha256=" + hmac.new(secret.get_secret_value().encode(), body, hashlib.sha256).hexdigest()
    )


def post(
    url: str,
    content: Mapping[str, Any],
    secret: SecretStr | None,
    *,
    patience_seconds: float = _PATIENCE_SECONDS,
) -> str | None:
    """POST ``content`` as JSON, and retry while that may help. Returns why it failed, or None.

    It may arrive twice if an answer is lost: ``content`` should have an id.
    """
    body = json.dumps(content, sort_keys=True).encode()
    headers = {"Content-Type": "application/json"}
    if secret is not None:
        headers[SIGNATURE] = signature(body, secret)
    tries = Retrying(
        stop=stop_after_delay(patience_seconds),
        wait=wait_exponential_jitter(initial=1, max=30),
        retry=retry_if_exception(_passes),
        reraise=True,
    )
    try:
        tries(_send, url, body, headers)
    except httpx.HTTPStatusError as e:
        return f"{e.response.status_code} {e.response.reason_phrase}"
    except (httpx.HTTPError, httpx.InvalidURL) as e:
        return str(e) or type(e).__name__
    return None


def run_command(command: str, content: Mapping[str, Any]) -> str | None:
    """Run ``command`` (no shell) with ``content`` as JSON on its stdin. Returns why it failed, or
    None."""
    try:
        done = subprocess.run(
            shlex.split(command),
            input=json.dumps(content).encode(),
            capture_output=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as e:
        return str(e)
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        return f"exit code {done.returncode}" + (f": {words[-1]}" if words else "")
    return None


def _send(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    httpx.post(url, content=body, headers=dict(headers), timeout=_ANSWER_SECONDS).raise_for_status()


def _passes(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in _PASSES
    return isinstance(error, httpx.TransportError)
