"""Forecasts of plans, and what a run of one would have measured."""

from __future__ import annotations

from typing import Any

from pipeline.budget.cards.lookup import cpu_card
from pipeline.cluster.engine_groups import EngineGroup
from pipeline.driver.forecast.forecast import Forecaster
from pipeline.driver.forecast.learning import learn
from pipeline.driver.forecast.types import Forecast
from pipeline.driver.plan.plan import Plan
from pipeline.report.profile import ProfileEntry, load_profile
from pipeline.report.summary import Summary

ROWS = 300
CPU = EngineGroup(1, cpu_card(16 << 30, 2), "some processor, cores: 2")


def forecast(
    plan: Plan, group: EngineGroup = CPU, records: list[ProfileEntry] | None = None
) -> Forecast:
    return Forecaster(plan, records or []).forecast([group])


def after_a_run(
    plan: Plan,
    *,
    completion_tokens: float,
    seconds: float = 30.0,
    group: EngineGroup = CPU,
    engines: tuple[dict[str, Any], ...] = (),
    **measured: Any,
) -> ProfileEntry:
    """The record of a run of ``plan`` whose rows got so many tokens in so many seconds.
    ``measured``: further fields of its summary."""
    made = forecast(plan, group)
    prompt = made.workload.prompt_tokens
    learn(
        plan,
        made,
        Summary(
            name="x",
            rows=ROWS,
            succeeded=ROWS,
            failed=0,
            reused=0,
            duplicates=0,
            prompt_tokens=round(ROWS * prompt),
            completion_tokens=round(ROWS * completion_tokens),
            seconds=seconds + 25,
            ready_seconds=20,
            work_seconds=seconds,
            rows_per_second=ROWS / seconds,
            completion_tokens_per_second=ROWS * completion_tokens / seconds,
            prompt_tokens_per_second=ROWS * prompt / seconds,
            preemptions=0,
            recomputed_tokens=0,
            recomputed_share=0.0,
            mean_kv_use=0.0,
            mean_batch=0.0,
            output="",
            report="",
            model="",
            quantization="",
            fingerprint="",
            engines=engines,
            **measured,
        ),
    )
    return load_profile()[-1]
