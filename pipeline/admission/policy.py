"""Which waiting request goes into one engine next, and when: the protocol of admission policies.

The same object decides for a real engine (`worker.engine_loop`) and in the simulator. It gets only
what a real scheduler can know: prompts, limits, what is generated, which requests have ended.
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
    """Of one engine. ``max_tokens``: of the longest possible completion. ``pool_blocks``: usable.
    ``steps_ahead``: see ``EngineFacts``."""

    layout: KvLayout
    pool_blocks: int
    max_num_seqs: int
    max_num_batched_tokens: int
    max_tokens: int
    steps_ahead: int = 0

    def missing(self, demand: Demand) -> int | None:
        """The blocks that ``demand`` needs to begin, if they are more than the whole pool."""
        needed = self.layout.prefill_blocks(demand.prompt_tokens)
        return needed if needed > self.pool_blocks else None


class Policy(Protocol):
    """Requests wait here until the policy hands them over, one by one."""

    @property
    def patience(self) -> int:
        """Steps after which it wants to be asked again even if no request has ended."""

    @property
    def wanted(self) -> int | None:
        """How many more requests it would like to choose among; None: it takes them as they come,
        and the caller decides how many."""

    @property
    def peak(self) -> float:
        """Blocks that the requests handed over are expected to hold at most; 0: it does not
        count."""

    def __len__(self) -> int:
        """How many wait here."""

    def add(self, demand: Demand, *, urgent: bool = False) -> None:
        """One more request waits. ``urgent``: it goes before all others (it continues a row that
        has begun)."""

    def forget(self, request_id: int) -> None:
        """A request that waits here is no longer wanted."""

    def take_back(self) -> list[int]:
        """Forget all that wait here. Returns their ids."""

    def next(self, *, inside: int, waiting: int, ending: bool) -> Demand | None:
        """The request to hand to the engine now; from then on it counts as handed over.

        ``inside``: requests that are in the engine; ``waiting``: those of them that it has not
        begun, or has preempted. Both include what was handed over since its last step. ``ending``:
        no more will be added.
        """

    def generated(self, ids: Iterable[int], steps: int = 1) -> None:
        """Each of the requests ``ids`` got this many more tokens."""

    def finished(self, request_id: int, tokens: int | None) -> None:
        """A request that was handed over has ended after ``tokens`` of completion (None: it failed,
        or was taken out)."""

    def recomputed(self, tokens: int) -> None:
        """The engine preempted requests, and computes this many tokens again."""

    def stepped(self, seconds: float, work: StepWork, waiting: int | None = None) -> None:
        """The engine's last steps, and how long they took in all.

        ``waiting``: given, after ``generated``, for engines that do not report the prompt tokens
        they compute. ``work`` then counts only the tokens computed again, and ``waiting`` the
        requests that the engine has not begun.
        """


class PolicyModule(Protocol):
    """What the module of a policy offers (``job.registries.admission_policies`` names it)."""

    def make(self, limits: Limits, known: Lengths | None, number: int) -> Policy:
        """``known``: how long completions were in an earlier run, or may be. ``number``: the one in
        its name ("static:12"), else 0."""


def make_policy(name: str, limits: Limits, known: Lengths | None = None) -> Policy:
    """As ``PolicyModule.make``, for the policy of that name. Raises ValueError if there is none."""
    policy, number = admission_policy(name)
    return cast(PolicyModule, importlib.import_module(policy.module)).make(limits, known, number)
