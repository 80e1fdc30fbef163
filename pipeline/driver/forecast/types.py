"""What is foretold of a job: on which cards, how long, for how much, done when."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.budget.engine_arguments import EngineChoice
from pipeline.budget.memory_split import MemorySplit
from pipeline.budget.predict import Estimate, Prediction, Workload
from pipeline.cluster.engine_groups import EngineGroup
from pipeline.driver.plan.plan import Plan
from pipeline.job.job import Job
from pipeline.job.when.deadline import deadline_at


@dataclass(frozen=True)
class Prices:
    """What time costs. ``watts``: of a card at work, instead of its board power."""

    per_kwh: float = 0.30
    per_gpu_hour: float = 0.0
    watts: float | None = None


@dataclass(frozen=True)
class GroupForecast:
    """One kind of card and what the job gets on it. ``memory``: None without a real engine."""

    group: EngineGroup
    choice: EngineChoice
    memory: MemorySplit | None
    estimate: Estimate

    @property
    def weights_share(self) -> float:
        """Of such a card's memory, what the weights take of it; 0 without a real engine."""
        there = self.memory
        return there.weights_bytes / there.card.vram_bytes if there is not None else 0.0


@dataclass(frozen=True)
class Lever:
    """A change the user could make, and the seconds the job would then take."""

    what: str
    seconds: float


@dataclass(frozen=True)
class Forecast:
    """A plan on cards. ``answer_basis``: what the answers' expected length stands on."""

    workload: Workload
    answer_basis: str
    placed: tuple[GroupForecast, ...]
    prediction: Prediction
    kwh: float
    cost: float
    prices: Prices
    levers: tuple[Lever, ...] = ()

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """Servers of which no run was ever measured: how fast they are, no card tells."""
        groups = [p.group for p in self.placed if p.estimate.basis == "roofline"]
        return tuple(group.model for group in groups if group.card is None and group.model)

    @property
    def engines(self) -> int:
        return sum(p.group.number for p in self.placed)


def done_at(job: Job, forecast: Forecast, now: datetime) -> datetime | None:
    """When a job that begins ``now`` will be done, its hours considered: engines load anew in each
    of its windows. None: not within a year."""
    p = forecast.prediction
    if job.resources.when is None:
        return now + timedelta(seconds=p.seconds)
    return job.resources.when.when_done(now, p.ready_seconds, p.work_seconds + p.other_seconds)


def seconds_to_spare(job: Job, forecast: Forecast, now: datetime) -> float | None:
    """Between the end that is foretold of a job that begins ``now`` and its deadline: negative if
    it will hardly be done by then; None without a deadline, and where nothing can be foretold."""
    if job.resources.deadline is None or forecast.unmeasured:
        return None
    done = done_at(job, forecast, now)
    if done is None:
        return -math.inf
    return (deadline_at(job.resources.deadline, now) - done).total_seconds()


def setup_key(
    plan: Plan, group: EngineGroup, choice: EngineChoice | None = None
) -> Mapping[str, str]:
    """What the times of a run depend on beside the rows, and what a measured run has in common with
    those that it tells the times of. ``choice``: where it may matter."""
    unpacked = choice is not None and choice.arguments.get("cpu_compute") == "bf16"
    return {
        "model": f"{plan.model.name} {plan.model.quantization}" + (" in bf16" if unpacked else ""),
        "card": group.name,
        "engine": group.job(plan.job).engine.kind,
    }
