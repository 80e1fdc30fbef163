"""What a measured run has in common with those that it tells the times of."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.budget.engine_arguments import EngineChoice
from pipeline.cluster.engine_groups import EngineGroup
from pipeline.driver.plan.plan import Plan


def setup_key(
    plan: Plan, group: EngineGroup, choice: EngineChoice | None = None
) -> Mapping[str, str]:
    """What the times of a run depend on beside the rows. ``choice``: where it may matter."""
    unpacked = choice is not None and choice.arguments.get("cpu_compute") == "bf16"
    return {
        "model": f"{plan.model.name} {plan.model.quantization}" + (" in bf16" if unpacked else ""),
        "card": group.name,
        "engine": group.job(plan.job).engine.kind,
    }
