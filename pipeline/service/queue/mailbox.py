"""Questions to the queue of a rack, and its answers, through the rack's head.

Ray's head stores small values by name, for all who have the token, on the port where machines join.
A question is such a value, and so is its answer: a laptop needs no other way to the rack, and the
queue needs no port of its own.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.cluster.rack_state.gcs import Gcs
from pipeline.errors import JobFailed, RackmillError, UsageError

_ASK, _ANSWER = "ask/", "answer/"
_LOOK_SECONDS = 0.1
_PATIENCE_SECONDS = 15.0
_KEPT_SECONDS = 60.0  # an answer that is not fetched
_LARGEST = 16 << 20  # bytes of a question


class NobodyAnswers(JobFailed):
    """The rack has no queue, or it does not answer."""


def ask(gcs: Gcs, what: str, about: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The answer to the question ``what``. Raises UsageError and JobFailed as the queue did,
    NobodyAnswers, HeadGone."""
    name = secrets.token_hex(8)
    content = json.dumps({"what": what, "about": dict(about or {})}).encode()
    if len(content) > _LARGEST:
        raise UsageError(f"that is too large to be sent: {len(content)} bytes, {_LARGEST} at most")
    gcs.put(_ASK + name, content)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        answer = gcs.get(_ANSWER + name)
        if answer is not None:
            gcs.delete(_ANSWER + name)
            return _opened(json.loads(answer))
        time.sleep(_LOOK_SECONDS)
    gcs.delete(_ASK + name)
    raise NobodyAnswers(
        f"the rack of {gcs.address} has no queue that answers",
        "its head is to be one of: rackmill rack start --head",
    )


def _opened(answer: dict[str, Any]) -> dict[str, Any]:
    if answer["ok"]:
        found: dict[str, Any] = answer["answer"]
        return found
    kind = UsageError if answer["usage"] else JobFailed
    raise kind(answer["message"], *answer["hints"])


class Mailbox:
    """The queue's side."""

    def __init__(self, answer: Callable[[str, Mapping[str, Any]], Mapping[str, Any]]) -> None:
        """``answer``: answers a question about something; raises RackmillError."""
        self._answer = answer
        self._given: dict[str, float] = {}  # answers put there -> when

    def look(self, gcs: Gcs) -> None:
        """Answer all questions that are there. Raises HeadGone."""
        asked = gcs.names(_ASK)
        for name, content in sorted(gcs.all(asked).items()):
            answer = _ANSWER + name.removeprefix(_ASK)
            gcs.put(answer, json.dumps(self._said(content)).encode())
            gcs.delete(name)
            self._given[answer] = time.monotonic()
        for answer, since in list(self._given.items()):
            if time.monotonic() - since > _KEPT_SECONDS:
                gcs.delete(answer)
                del self._given[answer]

    def _said(self, content: bytes) -> dict[str, Any]:
        try:
            asked = json.loads(content)
            given = self._answer(str(asked["what"]), dict(asked["about"]))
            return {"ok": True, "answer": dict(given)}
        except RackmillError as e:
            error = e
        except (ValueError, KeyError, TypeError) as e:
            error = UsageError(
                f"the queue does not understand the question: {type(e).__name__}: {e}",
                "rackmill may be another version here than on the rack's head",
            )
        except Exception as e:  # one question must not block the answers to others
            error = JobFailed(f"the queue could not answer: {type(e).__name__}: {e}")
        usage = isinstance(error, UsageError)
        return {"ok": False, "usage": usage, "message": error.message, "hints": list(error.hints)}
