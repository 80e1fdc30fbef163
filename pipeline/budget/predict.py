"""How long a job will take, from a model of the engine and from what earlier runs did.

The model says what a row costs one engine: the simulator's answer, with steps timed by the card's
data sheet (`pipeline.simulate.row_cost`). Real engines take a multiple of that. The multiple is
learned: every run is measured, and the runs most like the job at hand say by how much. Pure
arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import exp, log
from statistics import fmean, median_low
from typing import Literal

_SAME_SHAPE = 0.35  # distance (see `_distance`) up to which a run counts as one of the same shape
_AS_NEAR = 0.1
_RUNS = 5  # how many of the nearest runs are asked
_ONCE = 1.3  # times as long a single run may have taken as others would: nobody has seen how apart

Basis = Literal["measured", "scaled", "roofline"]
_SPREAD: dict[Basis, float] = {"measured": 1.15, "scaled": 1.5, "roofline": 2.0}


@dataclass(frozen=True)
class Workload:
    """Rows to do. Tokens are means over the rows; ``shared_tokens`` of the prompt stand in the
    prefix cache. ``kind``: what the answers are (``choices``, ``json``, ``regex``, ``text``,
    ``score``, ``score, top K``).

    Where more is known: the slices of the lengths and what some rows share beyond
    ``shared_tokens`` (``pipeline.rows.workload``: ``Lengths``, ``Groups`` as a tuple);
    ``requests`` that a row takes in the mean; ``repeated``: the share of the rows that equal rows
    answer; ``longest_completion``: of one row, which the others may have to wait for (0: unknown);
    ``answers``: that are written for each row, in ``completion_tokens`` together; ``asks``: tokens
    of each of a row's questions, in ``prompt_tokens`` together with the row's text.
    """

    kind: str
    rows: int
    prompt_tokens: float
    shared_tokens: float
    completion_tokens: float
    prompt_slices: tuple[float, ...] = ()
    completion_slices: tuple[float, ...] = ()
    groups: tuple[float, ...] = ()
    requests: float = 1.0
    repeated: float = 0.0
    longest_completion: float = 0.0
    answers: int = 1
    asks: tuple[int, ...] = ()

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
    slowdown: float = 1.0  # against the model
    compile_seconds: float = 0.0  # until it is ready, besides: the first time alone
    apart: float = 1.0  # by what factor the times of those runs differ from it, in the mean

    def with_answers_of(self, least_seconds: float) -> Estimate:
        """The same, where writing a row's answers takes ``least_seconds`` at the least. What was
        measured of such rows knows better than any data sheet."""
        if self.basis == "measured" or self.cost.answer_seconds >= least_seconds:
            return self
        return replace(self, cost=replace(self.cost, answer_seconds=least_seconds))


@dataclass(frozen=True)
class Prediction:
    """A run's phases in seconds. ``low`` and ``high`` bound what is likely in all.
    ``compile_seconds``: of ``ready_seconds``, what only the first start takes. ``apart``: the
    factor by which the times of the runs that it was learned from differ."""

    ready_seconds: float
    prompt_seconds: float
    answer_seconds: float
    other_seconds: float
    basis: Basis
    runs: int
    compile_seconds: float = 0.0
    apart: float = 1.0

    @property
    def seconds(self) -> float:
        return self.ready_seconds + self.work_seconds + self.other_seconds

    @property
    def work_seconds(self) -> float:
        return self.prompt_seconds + self.answer_seconds

    @property
    def bounds(self) -> tuple[float, float]:
        """The seconds between which the run will likely end."""
        spread = max(_SPREAD[self.basis], self.apart)
        return self.seconds / spread, self.seconds * spread


def estimate(
    workload: Workload,
    model: Callable[[Workload], RowCost],
    runs: Sequence[MeasuredRun],
    *,
    ready_seconds: float,
    other_seconds: float,
) -> Estimate:
    """What a row of ``workload`` costs one engine, by the ``runs`` of that model on that card.

    ``workload``: with the rows of one engine. ``model``: says it for any engine's workload, as far
    as the data sheet goes. ``runs``: oldest first. ``ready_seconds`` and ``other_seconds``:
    assumed where none was measured.

    Of the last few runs that are alike the middle one counts, the faster of two: what else goes on
    on a machine makes runs slower, never faster, so one that was disturbed changes nothing as soon
    as there is another. How far they are apart, the mean of |log| of their ratios, widens the
    bounds.
    """
    usable = [r for r in runs if r.workload.rows and r.work_seconds > 0]
    if not usable:
        return Estimate(model(workload), ready_seconds, other_seconds, "roofline")
    distances = {id(r): _distance(workload, r.workload) for r in usable}
    nearest = min(distances.values())
    alike = [r for r in usable if distances[id(r)] <= nearest + _AS_NEAR][-_RUNS:]
    slowdowns = [
        r.work_seconds * r.engines / r.workload.rows / model(_of_one(r)).seconds for r in alike
    ]
    slowdown = median_low(slowdowns)
    apart = exp(fmean(abs(log(one / slowdown)) for one in slowdowns))
    return Estimate(
        model(workload).times(slowdown),
        median_low(r.ready_seconds for r in alike),
        median_low(r.other_seconds for r in alike),
        "measured" if nearest <= _SAME_SHAPE else "scaled",
        len(alike),
        slowdown,
        apart=apart if len(alike) > 1 else _ONCE,
    )


def _of_one(run: MeasuredRun) -> Workload:
    """One engine's part of it."""
    return replace(run.workload, rows=max(1, run.workload.rows // run.engines))


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
        apart=max(e.apart for _, e in engines),
    )


def _distance(a: Workload, b: Workload) -> float:
    """How unlike two workloads are: 0 for the same shape, about 0.7 for a factor of two."""
    lengths = abs(log((a.new_tokens + 8) / (b.new_tokens + 8)))
    lengths += abs(log((a.completion_tokens + 1) / (b.completion_tokens + 1)))
    # a short run is slower by its first and last steps, but only somewhat
    size = 0.05 * abs(log(max(a.rows, 1) / max(b.rows, 1)))
    return lengths + size + (0.5 if a.kind != b.kind else 0.0)
