"""A fixed number of requests is in the engine, as users of vLLM set ``max_num_seqs``.

With an engine that is steps ahead, an end is reported that many steps late, and the slot of the
request stays empty until then; vLLM's own limit fills it at once.
"""

from __future__ import annotations

from pipeline.admission.demand import Demand
from pipeline.admission.policies.pass_through import PassThrough
from pipeline.admission.policy import Limits
from pipeline.rows.workload import Lengths


class Static(PassThrough):
    """``most``: requests in the engine at once."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def next(self, *, inside: int, waiting: int, ending: bool) -> Demand | None:
        if inside >= self._most:
            return None
        return super().next(inside=inside, waiting=waiting, ending=ending)


def make(limits: Limits, known: Lengths | None, number: int) -> Static:  # noqa: ARG001
    return Static(number)
