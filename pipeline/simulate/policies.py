"""The policies that the simulator compares: those of ``admission``, and those that only it can
have, for they are given the truth.

How long an answer will be is not among what a policy is told (``Demand`` does not say it); an
``oracle`` has its own way to it.
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

# by name: made of the limits, the engine itself, and request id -> tokens of its completion
_TOLD_THE_TRUTH: dict[str, Callable[[Limits, EngineModel, Mapping[int, int]], Policy]] = {
    "oracle": Oracle
}


def check_policy(name: str) -> None:
    """Raise UsageError for a policy unknown."""
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
    """``engine`` and ``truth`` (request id -> tokens of its completion): only an oracle is given
    them. ``known``: the lengths of completions of an earlier run, for those that learn them.
    Raises ValueError if there is no such policy."""
    if name in _TOLD_THE_TRUTH:
        return _TOLD_THE_TRUTH[name](limits, engine, truth)
    return policy.make_policy(name, limits, known)
