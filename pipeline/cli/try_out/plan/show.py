"""A plan as text and as JSON."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from pipeline.budget.fit.assess import Fit, gb
from pipeline.cli.terminal.console import OUT
from pipeline.cli.try_out.plan.forecast import forecast_as_json, forecast_lines
from pipeline.driver.forecast.types import Forecast, done_at, seconds_to_spare
from pipeline.driver.plan.download import BYTES_PER_SECOND, Download, download_of
from pipeline.driver.plan.plan import Plan
from pipeline.humanize import count, duration, plural
from pipeline.job.job import Job
from pipeline.model.stand_in import StandIn
from pipeline.report.fixes import fix_for

_BESIDE_BARS = 36  # columns
_BAR_CHARACTERS = 40


def plan_as_json(plan: Plan, forecast: Forecast | None, fits: list[Fit]) -> dict[str, Any]:
    """The plan's facts as plain data. Token counts are estimates from the sample."""
    shape = plan.sample.shape
    rows = plan.input.rows
    return {
        "name": plan.job.name,
        "model": plan.model.name,
        "model_path": None if isinstance(plan.model, StandIn) else str(plan.model.path),
        "model_hash": plan.model.hash,
        "quantization": plan.model.quantization,
        "output": plan.job.output.path,
        "fingerprint": plan.manifest["fingerprint"],
        "shards": len(plan.input.files.shards),
        "rows": rows,
        "units": len(plan.units),
        "reused_rows": plan.reused.rows,
        "reused_units": plan.units_done,
        "input_left": [str(one) for one in plan.input.files.left],
        "input_changes": plan.changes.as_json() if plan.changes else None,
        "prompt_tokens": round(shape.mean * rows),
        "prompt_tokens_mean": round(shape.mean, 1),
        "prompt_tokens_longest": shape.longest,
        "shared_prefix_tokens": shape.shared_prefix,
        "sampled_rows": plan.sample.rows,
        "prompt_tokens_histogram": {str(k): v for k, v in sorted(plan.sample.lengths.items())},
        "problems": dict(plan.sample.problems),
        "columns": plan.input.columns.schema.names,
        "download": made.as_json() if (made := _download(plan)) else None,
        **(forecast_as_json(forecast, fits) if forecast else {"predicted_seconds": 0.0}),
        "predicted_end": _done_at(plan, forecast),
    }


def _download(plan: Plan) -> Download | None:
    """The download of a model that is not in the store yet."""
    return download_of(plan.model.entry) if isinstance(plan.model, StandIn) else None


def download_lines(made: Download) -> list[str]:
    """Everything a user should know before such a download."""
    about = "" if made.exact else "about "
    megabits = BYTES_PER_SECOND * 8 / 1e6
    if not made.needs_token:
        token = "no token is needed"
    elif made.has_token:
        token = "a token of an account that accepted it is needed: HF_TOKEN is set"
    else:
        token = "a token of an account that accepted it is needed: export HF_TOKEN=…"
    room = f"{gb(made.disk_bytes)} of disk needed, {gb(made.disk_free)} free in {made.disk}"
    if not made.fits_disk:
        room += ": make room, or set RACKMILL_HOME to a folder on a larger disk"
    return [
        f"{about}{gb(made.size)} from {made.source}, {duration(made.seconds)} at "
        f"{megabits:.0f} Mbit/s, once, before the time below",
        f"licence: {made.licence}; {token}",
        room,
    ]


def _done_at(plan: Plan, forecast: Forecast | None) -> str | None:
    if forecast is None or forecast.unmeasured:
        return None
    done = done_at(plan.job, forecast, datetime.now(UTC))
    return None if done is None else done.isoformat(timespec="seconds")


def _hours(job: Job, done: datetime | None, now: datetime) -> str:
    """When the job may use the cards, and when it is then done, by the wall clock."""
    when = job.resources.when
    assert when is not None
    change = when.next_change(now)
    text = f"{job.resources.hours}: "
    if not when.open(now) and change is not None:
        text += f"nothing until {when.wall_clock(change)}, "
    if done is None:
        return text + "these hours are too short to get anywhere"
    return text + f"done {when.day_and_time(done)}, in {duration((done - now).total_seconds())}"


def print_plan(plan: Plan, forecast: Forecast | None, fits: list[Fit]) -> None:
    """The plan on a screen."""
    shape, sample = plan.sample.shape, plan.sample
    rows = plan.input.rows

    def line(name: str, *texts: str) -> None:
        for text in texts:
            OUT.print(f"  {name:<9} {text}")
            name = ""

    OUT.print(f"{plan.job.name} → {plan.job.output.path}")
    where = "not in the store yet" if isinstance(plan.model, StandIn) else plan.model.path
    line("model", f"{plan.model.name} {plan.model.quantization}, {where}")
    if (made := _download(plan)) is not None:
        line("download", *download_lines(made))
    most = max((unit.stop - unit.start for unit in plan.units), default=0)
    line(
        "input",
        f"{plural(rows, 'row')} in {plural(len(plan.input.files.shards), 'shard')}, saved in "
        f"{plural(len(plan.units), 'unit')} of at most {plural(most, 'row')}",
    )
    for text in (*plan.input.files.notes, *plan.input.files.waiting):
        line("", text.removeprefix("input: "))
    for text in plan.changes.lines():
        line("changed", text.removeprefix("input: "))
    if plan.committed:
        left = rows - plan.reused.rows
        line("resume", f"{plural(plan.reused.rows, 'row')} are there already, {count(left)} to do")
    # the part that a row's questions share counts once, though each is a request
    mean_of, longest_of = "in the mean", "the longest"
    if plan.job.questions is not None:
        mean_of, longest_of = "a row in the mean with all its questions", "the longest request"
    line(
        "prompts",
        f"{shape.mean:.0f} tokens {mean_of}, {shape.longest} {longest_of}, "
        f"{shape.shared_prefix} shared; about {count(shape.mean * rows)} in all "
        f"(from {plural(sample.rows, 'sampled row')})",
    )
    most = max(sample.lengths.values(), default=1)
    longest = max(1, min(_BAR_CHARACTERS, OUT.width - _BESIDE_BARS))
    for bucket, number in sorted(sample.lengths.items()):
        bar = "█" * max(1, round(number / most * longest))
        line("", f"{count(bucket // 2 + 1):>7}–{count(bucket):<7} {bar} {number}")
    if forecast is not None:
        for name, *texts in forecast_lines(forecast, fits):
            line(name, *texts)
        now = datetime.now(UTC)
        if plan.job.resources.hours is not None:
            line("hours", _hours(plan.job, done_at(plan.job, forecast, now), now))
        spare = seconds_to_spare(plan.job, forecast, now)
        if spare is not None:
            by = f" by about {duration(-spare)}" if math.isfinite(spare) else ""
            verdict = f"missed{by}" if spare < 0 else "it will be kept"
            line("deadline", f"{plan.job.resources.deadline}: {verdict}")
    line("doubt", *plan.doubts)
    line("output", ", ".join(plan.input.columns.schema.names))
    renamed = [f"{old} → {new}" for old, new in plan.input.columns.kept if old != new]
    if renamed:
        line("renamed", f"{', '.join(renamed)} (the name is taken by a result)")
    for problem, number in plan.sample.problems.items():
        limit = plan.context >= plan.model.geometry.context
        line(
            "problem",
            f"{plural(number, 'sampled row')} will be an error row: {problem}",
            f"→ {fix_for(problem.partition(':')[0], at_limit=limit)}",
        )
