"""Who is told that a scheduled run has ended, and what: a webhook, or a command."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import shlex
import subprocess
import threading
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import httpx
from pydantic import SecretStr
from tenacity import Retrying, retry_if_exception, stop_after_delay
from tenacity.wait import wait_exponential_jitter

from pipeline.job.when.schedule import Schedule
from pipeline.service.scheduler.schedule_db import Run, ScheduleDb, StoredSchedule

SIGNATURE = "X-Rackmill-Signature"
SECRET = "RACKMILL_WEBHOOK_SECRET"
_PATIENCE_SECONDS = 300.0
_ANSWER_SECONDS = 10.0
_COMMAND_SECONDS = 60.0
_PASSES = frozenset({408, 425, 429, 500, 502, 503, 504})


class Notifier:
    """Sends notices outside of the service's loop: a webhook may take minutes to answer. After a
    crash a notice may be sent twice; ``id`` identifies it.

    ``command``: gets every notice on stdin. The scheduler sets it, not a job file: authors of job
    files are not trusted to run programs.
    """

    def __init__(self, db: ScheduleDb, command: str | None = None) -> None:
        self._db, self._command = db, command
        self._at_it: set[tuple[str, datetime]] = set()

    def __call__(self, schedule: StoredSchedule, run: Run) -> None:
        """Send the notices, and note in the database that they were sent or what went wrong."""
        if run.key in self._at_it:
            return
        self._at_it.add(run.key)
        threading.Thread(target=self.tell, args=(schedule, run), daemon=True).start()

    def tell(self, schedule: StoredSchedule, run: Run) -> None:
        """The same, and wait until it is done."""
        webhook = Schedule.model_validate(schedule.job["schedule"]).notify.webhook
        content, failures = notice(schedule, run), []
        if webhook is not None:
            secret = os.environ.get(SECRET)
            why = post(webhook, content, SecretStr(secret) if secret else None)
            failures += [f"webhook: {why}"] if why else []
        if self._command is not None:
            why = run_command(self._command, content)
            failures += [f"command: {why}"] if why else []
        self._db.told(run, "; ".join(failures))
        self._at_it.discard(run.key)


def notice(schedule: StoredSchedule, run: Run) -> dict[str, Any]:
    """What is said about a run."""
    about = {"schedule": schedule.name, "output": schedule.output}
    told = {k: v for k, v in run.as_json().items() if k not in ("manual", "full", "notice")}
    return {"id": f"{schedule.name}/{run.due.isoformat()}", **about, **told}


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
