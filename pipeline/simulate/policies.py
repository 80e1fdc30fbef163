"""The policies that the simulator compares: those of ``admission``, and those that only exist here,
because they know the truth.

A policy is not told how long an answer will be (``Demand`` does not contain it); an ``oracle`` gets
it in another way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipeline.admission import policy
from pipeline.admission.policy import Limits, Policy
from pipeline.errors import UsageError
from pipeline.job.registries.admission_policies import admission_policy
from pipeline.rows.workload import Lengths
from pipeline.simulate.oracle import Oracle
from pipeline.simulate.vllm_model.scheduler import EngineModel

# by name: created from the limits, the engine, and request id -> tokens of its completion
_TOLD_THE_TRUTH: dict[str, Callable[[Limits, EngineModel, Mapping[int, int]], Policy]] = {
    "oracle": Oracle
}


def check_policy(name: str) -> None:
    """Raise UsageError for an unknown policy."""
    if name not in _TOLD_THE_TRUTH:
        try:
            admission_policy(name, beside=_TOLD_THE_TRUTH)
        except ValueError as e:
            raise UsageError(f"policy: {e}") from None


def make_policy(
    name: str,
    limits: Limits,
    engine: EngineModel,
    truth: Mapping[int, int],
    known: Lengths | None = None,
) -> Policy:
    """``engine`` and ``truth`` (request id -> tokens of its completion): only for an oracle.
    ``known``: the lengths of an earlier run's completions, for policies that learn them. Raises
    ValueError if there is no such policy."""
    if name in _TOLD_THE_TRUTH:
        return _TOLD_THE_TRUTH[name](limits, engine, truth)
    return policy.make_policy(name, limits, known)
