"""What travels between whoever tries prompts and the process that keeps the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import RackmillError
from pipeline.job.job import Job
from pipeline.output.columns.results import RowResult
from pipeline.worker.answer_rows import Row, RowPlace


@dataclass(frozen=True)
class LoadEngine:
    """Load an engine for ``job`` (once). ``key``: see ``client.engine_key``."""

    job: Job
    arguments: Mapping[str, Any]
    cards: tuple[int, ...]
    key: str


@dataclass(frozen=True)
class AnswerRows:
    """Answer these rows as ``job`` says."""

    job: Job
    rows: Sequence[Row]
    places: Sequence[RowPlace]


@dataclass(frozen=True)
class EndEngine:
    """End at once, and give the card back."""


@dataclass(frozen=True)
class LoadedEngine:
    """What is loaded. ``key`` empty: nothing yet."""

    key: str = ""


@dataclass(frozen=True)
class ProgressNote:
    """Something to be said while it goes on."""

    line: str


@dataclass(frozen=True)
class RequestFailed:
    """It did not work."""

    error: RackmillError


AnsweredRows = list[RowResult]
