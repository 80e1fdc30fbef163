"""How long a job will take, from what the hardware could do and from what earlier runs did.

The roofline gives the least time that a card needs for a row: its new prompt tokens at the
card's arithmetic, its answer's tokens at the card's memory bandwidth. Real engines take a
multiple of that. The multiple is learned: every run is measured, and the runs most like the
job at hand say by how much. Pure arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from statistics import median
from typing import Literal

# Multiples of the roofline where nothing was measured yet: engines reach about half of the
# arithmetic and two thirds of the bandwidth of a card, and the last requests run alone.
_UNMEASURED_SLOWDOWN = 2.0
_SAME_SHAPE = 0.35  # distance (see `_distance`) up to which a run counts as one of the same shape
_AS_NEAR = 0.1
_RUNS = 5  # how many of the nearest runs are asked

Basis = Literal["measured", "scaled", "roofline"]


@dataclass(frozen=True)
class Workload:
    """Rows to do. Tokens are means over the rows; ``shared_tokens`` of the prompt stand in the
    prefix cache. ``kind``: what the answers are (``choices``, ``json``, ``regex``, ``text``,
    ``score``, ``score, top K``)."""

    kind: str
    rows: int
    prompt_tokens: float
    shared_tokens: float
    completion_tokens: float

    @property
    def new_tokens(self) -> float:
        """Prompt tokens of a row that must be computed."""
        return max(self.prompt_tokens - self.shared_tokens, 1.0)


@dataclass(frozen=True)
class RowCost:
    """Seconds of one engine for one row, the batch's shared costs divided among its rows."""

    prompt_seconds: float
    answer_seconds: float

    @property
    def seconds(self) -> float:
        return self.prompt_seconds + self.answer_seconds

    def times(self, factor: float) -> RowCost:
        return RowCost(self.prompt_seconds * factor, self.answer_seconds * factor)


@dataclass(frozen=True)
class MeasuredRun:
    """What one run took, in seconds: until the first step, working, and everything else."""

    workload: Workload
    engines: int
    ready_seconds: float
    work_seconds: float
    other_seconds: float


@dataclass(frozen=True)
class Estimate:
    """What one engine on one card needs: a row's cost, loading, and how we know."""

    cost: RowCost
    ready_seconds: float
    other_seconds: float
    basis: Basis
    runs: int = 0  # that it was learned from
    slowdown: float = 1.0  # against the roofline
    compile_seconds: float = 0.0  # until it is ready, besides: the first time alone


@dataclass(frozen=True)
class Prediction:
    """A run's phases in seconds. ``low`` and ``high`` bound what is likely in all.
    ``compile_seconds``: of ``ready_seconds``, what only the first start takes."""

    ready_seconds: float
    prompt_seconds: float
    answer_seconds: float
    other_seconds: float
    basis: Basis
    runs: int
    compile_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        return self.ready_seconds + self.work_seconds + self.other_seconds

    @property
    def work_seconds(self) -> float:
        return self.prompt_seconds + self.answer_seconds

    @property
    def bounds(self) -> tuple[float, float]:
        """The seconds between which the run will likely end."""
        spread = {"measured": 1.15, "scaled": 1.5, "roofline": 2.0}[self.basis]
        return self.seconds / spread, self.seconds * spread


def estimate(
    workload: Workload,
    roofline: Callable[[Workload], RowCost],
    runs: Sequence[MeasuredRun],
    *,
    ready_seconds: float,
    other_seconds: float,
) -> Estimate:
    """What a row of ``workload`` costs one engine, by the ``runs`` of that model on that card.

    ``runs``: oldest first. ``ready_seconds`` and ``other_seconds``: assumed where none was
    measured.
    """
    usable = [r for r in runs if r.workload.rows and r.work_seconds > 0]
    if not usable:
        slowdown = _UNMEASURED_SLOWDOWN
        cost = roofline(workload).times(slowdown)
        return Estimate(cost, ready_seconds, other_seconds, "roofline", 0, slowdown)
    distances = {id(r): _distance(workload, r.workload) for r in usable}
    nearest = min(distances.values())
    alike = [r for r in usable if distances[id(r)] <= nearest + _AS_NEAR][-_RUNS:]
    slowdown = median(
        r.work_seconds * r.engines / r.workload.rows / roofline(r.workload).seconds for r in alike
    )
    return Estimate(
        roofline(workload).times(slowdown),
        median(r.ready_seconds for r in alike),
        median(r.other_seconds for r in alike),
        "measured" if nearest <= _SAME_SHAPE else "scaled",
        len(alike),
        slowdown,
    )


def predict(rows: int, engines: Sequence[tuple[int, Estimate]]) -> Prediction:
    """The run's phases when ``engines`` (how many of each kind) pull rows as they can.

    Raises ValueError when there is no engine.
    """
    rate = sum(number / one.cost.seconds for number, one in engines)
    if not rate:
        raise ValueError("no engine")
    work = rows / rate
    # all work equally long, so each kind's split counts by the number of its engines
    number = sum(n for n, _ in engines)
    prompts = sum(n * e.cost.prompt_seconds / e.cost.seconds for n, e in engines) / number
    last = max((e for _, e in engines), key=lambda e: e.ready_seconds + e.compile_seconds)
    bases: list[Basis] = [e.basis for _, e in engines]
    worst: Basis = max(bases, key=["measured", "scaled", "roofline"].index)
    return Prediction(
        ready_seconds=last.ready_seconds + last.compile_seconds if rows else 0.0,
        prompt_seconds=work * prompts,
        answer_seconds=work * (1 - prompts),
        other_seconds=max(e.other_seconds for _, e in engines),
        basis=worst,
        runs=min(e.runs for _, e in engines),
        compile_seconds=last.compile_seconds if rows else 0.0,
    )


def _distance(a: Workload, b: Workload) -> float:
    """How unlike two workloads are: 0 for the same shape, about 0.7 for a factor of two."""
    lengths = abs(log((a.new_tokens + 8) / (b.new_tokens + 8)))
    lengths += abs(log((a.completion_tokens + 1) / (b.completion_tokens + 1)))
    # a short run is slower by its first and last steps, but only somewhat
    size = 0.05 * abs(log(max(a.rows, 1) / max(b.rows, 1)))
    return lengths + size + (0.5 if a.kind != b.kind else 0.0)
