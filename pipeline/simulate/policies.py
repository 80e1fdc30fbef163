"""Which waiting request goes to the engine next, and whether one does: the policies that the
simulator compares. Pure.

A policy is told what a real scheduler can know: prompts, limits, what is generated, who has
ended. How long an answer will be is not among it (``Demand`` does not say it); ``oracle`` has
its own way to the truth.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Protocol

from pipeline.admission.admission import Admission, Limits
from pipeline.admission.packer import Demand
from pipeline.budget.step_time import StepWork
from pipeline.errors import UsageError, did_you_mean
from pipeline.rows.work_order import mixed
from pipeline.rows.workload import Lengths
from pipeline.simulate.oracle import Oracle
from pipeline.simulate.vllm_model.scheduler import EngineModel

POLICIES = ("packed", "engine", "static:K", "worst-case", "oracle")


class Policy(Protocol):
    """``patience``: steps after which it wants to be asked again though nothing has ended."""

    patience: int

    def add(self, demand: Demand) -> None:
        """One more request waits."""

    def take_back(self) -> list[int]:
        """Ids of all that still wait here; they are forgotten."""

    def next(self, engine: EngineModel, *, ending: bool) -> Demand | None:
        """The request to hand to ``engine`` now. ``ending``: no more will be added."""

    def generated(self, ids: Iterable[int], steps: int) -> None:
        """Each of ``ids`` got so many more tokens."""

    def finished(self, request_id: int, tokens: int | None) -> None:
        """A request has ended after ``tokens`` tokens of completion (None: it was taken out)."""

    def recomputed(self, tokens: int) -> None:
        """So many tokens had to be computed again."""

    def stepped(self, seconds: float, work: StepWork) -> None:
        """The last steps, and how long they took in all."""

    def __len__(self) -> int:
        """How many wait here."""


def static_limit(name: str) -> int | None:
    """K of "static:K"; None for every other policy. Raises UsageError for a policy unknown."""
    kind, _, rest = name.partition(":")
    if kind == "static":
        if rest.isdecimal() and int(rest) > 0:
            return int(rest)
        raise UsageError(f"policy: {name!r} says no number of requests", "write it like static:12")
    if name not in POLICIES:
        near = did_you_mean(kind, [policy.partition(":")[0] for policy in POLICIES])
        raise UsageError(
            f"policy: unknown policy {name!r}",
            *([f"did you mean {near}?"] if near else []),
            f"known: {', '.join(POLICIES)}",
        )
    return None


def make_policy(
    name: str, limits: Limits, truth: Mapping[int, int], known: Lengths | None = None
) -> Policy:
    """``truth``: request id -> tokens of its completion; only the oracle is given it. ``known``:
    the lengths of completions of an earlier run, for those that learn them."""
    static_limit(name)
    if name == "packed":
        return Packed(limits, known)
    if name == "worst-case":
        return WorstCase(limits)
    if name == "oracle":
        return Oracle(limits.layout, limits.pool_blocks, limits.max_num_seqs, truth)
    return HandAll()


class HandAll:
    """Everything goes to the engine at once: its own admission decides."""

    patience = 1 << 30

    def __init__(self) -> None:
        self._waiting: deque[Demand] = deque()

    def add(self, demand: Demand) -> None:
        self._waiting.append(demand)

    def take_back(self) -> list[int]:
        ids = [demand.id for demand in self._waiting]
        self._waiting.clear()
        return ids

    def next(self, engine: EngineModel, *, ending: bool) -> Demand | None:  # noqa: ARG002
        return self._waiting.popleft() if self._waiting else None

    def generated(self, ids: Iterable[int], steps: int) -> None:
        pass

    def finished(self, request_id: int, tokens: int | None) -> None:
        pass

    def recomputed(self, tokens: int) -> None:
        pass

    def stepped(self, seconds: float, work: StepWork) -> None:
        pass

    def __len__(self) -> int:
        return len(self._waiting)


class WorstCase(HandAll):
    """In order, as long as prompt and ``max_tokens`` of all that run would fit at once."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._limits = limits
        self._reserved: dict[int, int] = {}
        self._sum = 0

    def next(self, engine: EngineModel, *, ending: bool) -> Demand | None:
        if not self._waiting or len(self._reserved) >= self._limits.max_num_seqs:
            return None
        demand = self._waiting[0]
        blocks = self._limits.layout.prefill_blocks(demand.prompt_tokens + demand.max_new_tokens)
        if self._reserved and self._sum + blocks > self._limits.pool_blocks:
            return None
        self._reserved[demand.id] = blocks
        self._sum += blocks
        return super().next(engine, ending=ending)

    def finished(self, request_id: int, tokens: int | None) -> None:  # noqa: ARG002
        self._sum -= self._reserved.pop(request_id)


class Packed:
    """Rackmill's own, the same code as beside a real engine."""

    patience = 8

    def __init__(self, limits: Limits, known: Lengths | None = None) -> None:
        self._admission = Admission(limits, known)
        self._coming: deque[Demand] = deque()  # not yet among those it chooses from
        self._new: list[Demand] = []  # given since it was asked last

    def add(self, demand: Demand) -> None:
        self._new.append(demand)

    def take_back(self) -> list[int]:
        ids = [*self._admission.take_back(), *(d.id for d in (*self._coming, *self._new))]
        self._coming.clear()
        self._new.clear()
        return ids

    def next(self, engine: EngineModel, *, ending: bool) -> Demand | None:
        if self._new:
            # as a worker takes them that has them all
            self._coming.extend(self._new[place] for place in mixed(len(self._new)))
            self._new.clear()
        for _ in range(min(self._admission.wanted, len(self._coming))):
            self._admission.add(self._coming.popleft())
        return self._admission.next(len(engine.waiting), ending=ending and not self._coming)

    def generated(self, ids: Iterable[int], steps: int) -> None:
        self._admission.generated(ids, steps)

    def finished(self, request_id: int, tokens: int | None) -> None:
        self._admission.finished(request_id, tokens)

    def recomputed(self, tokens: int) -> None:
        self._admission.recomputed(tokens)

    def stepped(self, seconds: float, work: StepWork) -> None:
        self._admission.stepped(seconds, work)

    def __len__(self) -> int:
        return len(self._admission) + len(self._coming) + len(self._new)
