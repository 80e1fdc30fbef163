"""What tests of servers share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.engine.http.engine import HttpEngine
from pipeline.engine.http.kind import connect
from pipeline.errors import RowErrorType
from pipeline.job.sampling import Sampling
from pipeline.model.folder import ModelFolder
from pipeline.rows.request import Completion, Request
from tests.support.datasets import job_in


def engine_at(
    url: str,
    folder: Path,
    kind: str = "llama.cpp",
    said: list[str] | None = None,
    patience: float = 60.0,
    **changes: Any,
) -> HttpEngine:
    """An engine of the server at ``url``, for a job with ``changes``. ``patience``: seconds for
    which it is waited for."""
    engine = {"kind": kind, "url": url} | changes.pop("engine", {})
    job = job_in(folder, engine=engine, faults={"step_timeout_seconds": patience}, **changes)
    model = ModelFolder("tiny", folder / "model")
    lines = [] if said is None else said
    return connect(job, model, lines.append, url, None)


def request_of(number: int = 1, **sampling: Any) -> Request:
    """A request with a prompt of four tokens."""
    given = Sampling.model_validate({"max_tokens": 8} | sampling)
    return Request(number, [2, 5, 6, 7], given)


def ended(engine: HttpEngine, number: int = 1) -> list[Completion]:
    """So many completions."""
    found: list[Completion] = []
    for _ in range(240):
        found += engine.step()
        if len(found) >= number:
            return found
    raise AssertionError(f"{len(found)} of {number} requests ended")


def assert_error_row(url: str, folder: Path, kind: RowErrorType, said: str) -> None:
    """A request to the server at ``url`` ends with such an error."""
    engine = engine_at(url, folder)
    engine.add(request_of())
    [found] = ended(engine)
    engine.close()

    assert found.error is not None
    assert found.error.type is kind
    assert said in found.error.message
