"""Which waiting request goes into one engine next, and when: what every admission policy is.

The same object decides beside a real engine (`worker.engine_loop`) and in the simulator. It is
told what a real scheduler can know: prompts, limits, what is generated, who has ended.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, cast

from pipeline.admission.demand import Demand
from pipeline.budget.kv_layout import KvLayout
from pipeline.budget.step_time import StepWork
from pipeline.job.registries.admission_policies import admission_policy
from pipeline.rows.workload import Lengths


@dataclass(frozen=True)
class Limits:
    """One engine's. ``max_tokens``: of a completion at the longest. ``pool_blocks``: usable.
    ``steps_ahead``: see ``EngineFacts``."""

    layout: KvLayout
    pool_blocks: int
    max_num_seqs: int
    max_num_batched_tokens: int
    max_tokens: int
    steps_ahead: int = 0

    def missing(self, demand: Demand) -> int | None:
        """The blocks that ``demand`` needs to begin, if the pool never has so many."""
        needed = self.layout.prefill_blocks(demand.prompt_tokens)
        return needed if needed > self.pool_blocks else None


class Policy(Protocol):
    """Requests wait in it until it hands them over, one by one."""

    @property
    def patience(self) -> int:
        """Steps after which it wants to be asked again though nothing has ended."""

    @property
    def wanted(self) -> int | None:
        """How many more requests it would like to choose among; None: it takes them as they
        come, and their number is the caller's affair."""

    @property
    def peak(self) -> float:
        """Blocks that those handed over are expected to hold at the most; 0: it does not count."""

    def __len__(self) -> int:
        """How many wait here."""

    def add(self, demand: Demand, *, urgent: bool = False) -> None:
        """One more waits. ``urgent``: it goes before all others (it continues what has begun)."""

    def forget(self, request_id: int) -> None:
        """One that waits here is wanted no more."""

    def take_back(self) -> list[int]:
        """Forget all that wait here. Returns their ids."""

    def next(self, *, inside: int, waiting: int, ending: bool) -> Demand | None:
        """The request to hand to the engine now; it counts as handed over.

        ``inside``: requests that are in the engine; ``waiting``: those of them that it has not
        begun with, or has preempted. Both count what was handed over since its last step.
        ``ending``: no more will be added.
        """

    def generated(self, ids: Iterable[int], steps: int = 1) -> None:
        """Each of the requests ``ids`` got so many more tokens."""

    def finished(self, request_id: int, tokens: int | None) -> None:
        """One that was handed over has ended after ``tokens`` of completion (None: it failed, or
        was taken out)."""

    def recomputed(self, tokens: int) -> None:
        """The engine preempted requests, and computes so many tokens again."""

    def stepped(self, seconds: float, work: StepWork, waiting: int | None = None) -> None:
        """The engine's last steps, and how long they took in all.

        ``waiting``: given, after ``generated``, where nobody counts the prompt tokens that an
        engine computes. ``work`` then counts only the tokens computed again, and ``waiting`` the
        requests that the engine has not begun.
        """


class PolicyModule(Protocol):
    """What the module of a policy offers (``job.admission_policies`` names it)."""

    def make(self, limits: Limits, known: Lengths | None, number: int) -> Policy:
        """``known``: how long completions turned out in an earlier run, or may be. ``number``:
        the one behind its name ("static:12"), else 0."""


def make_policy(name: str, limits: Limits, known: Lengths | None = None) -> Policy:
    """As ``PolicyModule.make``, of the policy of that name. Raises ValueError if there is none."""
    policy, number = admission_policy(name)
    return cast(PolicyModule, importlib.import_module(policy.module)).make(limits, known, number)
