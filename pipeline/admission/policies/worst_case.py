"""In order, as long as prompt and ``max_tokens`` of all running requests would fit at once."""

from __future__ import annotations

from pipeline.admission.demand import Demand
from pipeline.admission.policies.pass_through import PassThrough
from pipeline.admission.policy import Limits
from pipeline.rows.workload import Lengths


class WorstCase(PassThrough):
    """Nothing is ever preempted, and most of the cache stays empty where answers end early."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._limits = limits
        self._reserved: dict[int, int] = {}
        self._sum = 0

    @property
    def peak(self) -> float:  # type: ignore[override]
        return self._sum

    def next(self, *, inside: int, waiting: int, ending: bool) -> Demand | None:
        demand = self.first
        if demand is None or len(self._reserved) >= self._limits.max_num_seqs:
            return None
        blocks = self._limits.layout.prefill_blocks(demand.prompt_tokens + demand.max_new_tokens)
        if self._reserved and self._sum + blocks > self._limits.pool_blocks:
            return None
        self._reserved[demand.id] = blocks
        self._sum += blocks
        return super().next(inside=inside, waiting=waiting, ending=ending)

    def finished(self, request_id: int, tokens: int | None) -> None:  # noqa: ARG002
        self._sum -= self._reserved.pop(request_id, 0)


def make(limits: Limits, known: Lengths | None, number: int) -> WorstCase:  # noqa: ARG001
    return WorstCase(limits)
