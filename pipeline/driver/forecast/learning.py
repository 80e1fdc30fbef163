"""After a run: what it took, written down for the next prediction."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from pipeline.budget.buckets import compile_key
from pipeline.budget.overhead import seen
from pipeline.budget.predict import MeasuredRun, Workload
from pipeline.driver.forecast.types import Forecast, GroupForecast, setup_key
from pipeline.driver.plan.plan import Plan
from pipeline.report.profile import ProfileEntry, remember
from pipeline.report.summary import Summary
from pipeline.rows.workload import Lengths


def learn(plan: Plan, forecast: Forecast, summary: Summary) -> None:
    """Write down what the run took, for the next prediction."""
    rows = summary.rows - summary.reused
    if len(forecast.placed) != 1 or not rows or not summary.work_seconds:
        return  # the times of a mixed group say nothing of one card
    if summary.waited_seconds:
        return  # engines were loaded anew, some cards were away for longer than others
    placed = forecast.placed[0]
    ready = summary.ready_seconds - summary.model_seconds
    compiling = max((float(e.get("compile_seconds", 0)) for e in summary.engines), default=0.0)
    compiling = min(compiling, max(ready, 0.0))
    other = summary.seconds - summary.ready_seconds - summary.work_seconds
    remember(
        ProfileEntry(
            day=datetime.now(UTC).date().isoformat(),
            template=plan.template,
            run=MeasuredRun(
                _done(forecast, summary, rows),
                placed.group.number,
                ready - compiling,
                summary.work_seconds,
                other,
            ),
            predicted_seconds=None if forecast.unmeasured else forecast.prediction.seconds,
            seconds=summary.seconds - summary.model_seconds,
            overhead_bytes=_seen_overhead(placed, summary),
            watts=_watts(placed, summary),
            compiled=compile_key(placed.choice.arguments),
            compile_seconds=compiling,
            **setup_key(plan, placed.group, placed.choice),
        )
    )


def _watts(placed: GroupForecast, summary: Summary) -> float | None:
    """Of one card, from its engine's beginning to its end."""
    cards = placed.group.watts(1.0)
    if summary.energy_kwh is None or not summary.energy_seconds or not cards:
        return None
    return summary.energy_kwh * 3.6e6 / summary.energy_seconds * placed.group.number / cards


def _done(forecast: Forecast, summary: Summary, rows: int) -> Workload:
    """What the engines did. Tokens are means over the rows that were computed."""
    repeated = min(summary.duplicates / summary.rows, 0.99)
    answered = max(1, summary.rows - summary.duplicates - summary.failed)
    seconds = summary.work_seconds / (rows * (1 - repeated))
    completion = summary.completion_tokens_per_second * seconds
    answers = forecast.workload.answers
    lengths = Lengths.in_buckets(summary.completion_lengths, completion / answers)
    return replace(
        forecast.workload,
        rows=rows,
        prompt_tokens=summary.prompt_tokens_per_second * seconds,
        completion_tokens=completion,
        completion_slices=tuple(round(n, 1) for n in lengths.slices),
        longest_completion=float(summary.longest_completion),
        prompt_slices=tuple(round(n, 1) for n in forecast.workload.prompt_slices),
        requests=max(1.0, summary.requests / answered),
        repeated=repeated,
    )


def _seen_overhead(placed: GroupForecast, summary: Summary) -> int | None:
    if placed.memory is None or placed.group.shared or not summary.engines:
        return None
    share = float(placed.choice.arguments.get("gpu_memory_utilization", 0.0))
    kv_bytes = int(summary.engines[0]["kv_bytes"])
    return seen(placed.group.share, share, placed.memory.weights_bytes, kv_bytes)
