"""What a worker's engine came to up to now: rows, tokens, and what it did when."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from pipeline.engine.protocol import EngineStats
from pipeline.output.columns.results import RowResult
from pipeline.worker.metrics.timeline import Timeline, TimelineInterval


@dataclass(frozen=True, slots=True)
class Before:
    """How it was when a step began, at ``started`` (epoch seconds)."""

    started: float
    rows: int
    prompt_tokens: int
    preemptions: int
    recomputed_tokens: int


class Totals:
    """Running totals. ``given_up``: rows that were taken and are not done here; ``generated``:
    tokens that the engine has written, also of rows that are not finished; times in epoch seconds,
    0 before there is any."""

    def __init__(self) -> None:
        self.rows = self.prompt_tokens = self.completion_tokens = 0
        self.errors: Counter[str] = Counter()  # by type
        self.given_up = 0
        self.generated = 0
        self.first_step = self.last_step = 0.0
        self._timeline = Timeline()

    @property
    def intervals(self) -> tuple[TimelineInterval, ...]:
        return self._timeline.intervals

    def finished(self, result: RowResult) -> None:
        """A row has its result."""
        self.rows += 1
        if result.error is not None:
            self.errors[result.error.type.value] += 1
        self.prompt_tokens += result.prompt_tokens
        self.completion_tokens += result.completion_tokens

    def begin_step(self, stats: EngineStats) -> Before:
        started = time.time()
        self.first_step = self.first_step or started
        counts = (stats.preemptions, stats.recomputed_tokens)
        return Before(started, self.rows, self.prompt_tokens, *counts)

    def end_step(self, before: Before, stats: EngineStats, *, ended: bool) -> None:
        """``ended``: whether a request has."""
        now = time.time()
        self.generated += len(stats.sampled)
        if ended:
            self.last_step = now
        self._timeline.add(
            TimelineInterval(
                before.started,
                now - before.started,
                rows=self.rows - before.rows,
                prompt_tokens=self.prompt_tokens - before.prompt_tokens,
                completion_tokens=len(stats.sampled),
                batch=len(set(stats.sampled)),
                waiting=stats.waiting,
                kv_use=stats.kv_use,
                preemptions=stats.preemptions - before.preemptions,
                recomputed_tokens=stats.recomputed_tokens - before.recomputed_tokens,
            )
        )
