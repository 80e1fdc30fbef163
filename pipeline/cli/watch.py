"""What a run shows while it runs: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from rich.console import Console

from pipeline.cli.bar import make_bar
from pipeline.cli.show_forecast import cards_in_words, time_in_words
from pipeline.driver.coordinator.coordinator import Snapshot
from pipeline.driver.forecast.types import Forecast
from pipeline.driver.plan import Plan
from pipeline.driver.watcher import Watcher
from pipeline.engine.machine.card_notes import CardsNow, readings_in_words
from pipeline.errors import some_of
from pipeline.humanize import count, duration, energy, plural, rate, size
from pipeline.output.dataset import REPORT
from pipeline.report.fixes import error_lines
from pipeline.report.pace import Pace
from pipeline.report.summary import Summary

_PLAIN_SECONDS = 5.0
_NAMED = 5  # files that are named one by one


class RunWatcher(Watcher):
    """Prints the run's course to ``console`` (stderr)."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._pace = Pace()
        self._engines_shown = 0
        self._waits_for = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def note(self, line: str) -> None:
        self._console.print(f"  {line}", markup=False)

    def planned(self, plan: Plan, forecast: Forecast) -> None:
        job, shape = plan.job, plan.sample.shape
        shards = plural(len(plan.input.files.shards), "shard")
        self._line(
            f"{job.name} · {plan.model.name} {plan.model.quantization} · "
            f"{plural(plan.input.rows, 'row')} in {shards} → {job.output.path}"
        )
        if plan.committed:
            self._line(
                f"  resuming: {count(plan.reused.rows)} of {plural(plan.input.rows, 'row')} "
                f"are already there ({plan.units_done} of {plural(len(plan.units), 'unit')})"
            )
        self._line(
            f"  plan    {plural(forecast.engines, 'engine')} ({cards_in_words(forecast)}) · "
            f"{shape.mean:.0f} tokens/row, {shape.shared_prefix} shared · "
            f"{time_in_words(forecast.prediction)}"
        )
        when = job.resources.when
        if when is None or when.open(datetime.now(UTC)):
            self._line("  engine  loading")

    def worker_lost(self, worker: str, why: str) -> None:
        self._line(f"  {worker} stopped and is replaced: {why}")

    def waiting(self, why: str) -> None:
        if why != self._waits_for:
            self._waits_for = why
            if why:
                self._line(f"  waiting: {why}")

    def stopping(self, requests: int | None, grace_seconds: float, by: str) -> None:
        asked = f", as {by} asks" if by else ""
        if requests == 0:
            what = "nothing is in flight"
        elif not grace_seconds:
            what = "at once"
        else:
            flying = "what is" if requests is None else plural(requests, "request")
            what = f"finishing {flying} in flight, at most {duration(grace_seconds)}"
        self._line(f"  stopping{asked}: {what}; Ctrl-C again stops at once")

    def progress(self, snapshot: Snapshot, plan: Plan) -> None:
        for facts in list(snapshot.engines.values())[self._engines_shown :]:
            self._engines_shown += 1
            kv = f"KV {size(facts.kv_bytes)}" if facts.kv_bytes else "KV"
            kv += f" on each of {facts.cards} cards" if facts.cards > 1 else ""
            self._line(
                f"  engine  ready after {duration(time.monotonic() - self._started)} · {kv}, "
                f"{count(facts.num_blocks)} blocks of {facts.block_size} tokens"
                + (f" · computed in {facts.computed_in}" if facts.computed_in else "")
            )
        if self._waits_for:
            return
        if self._pace.note(time.monotonic(), snapshot.workers.values()):
            done = min(plan.reused.rows + self._pace.rows, plan.input.rows)
            self.show(done, plan.input.rows, self._details(snapshot, plan.input.rows - done))

    def _details(self, snapshot: Snapshot, left: int) -> str:
        use = " ".join(f"{p.kv_use:.0%}" for p in snapshot.workers.values() if p.running) or "0%"
        failed = sum(p.error_rows for p in snapshot.workers.values())
        parts = [
            f"{rate(self._pace.rows_per_second)} rows/s",
            f"{rate(self._pace.tokens_per_second)} tokens/s",
            f"KV {use}",
            f"{failed} failed",
        ]
        now = CardsNow.of(snapshot.at_work.values())
        parts += readings_in_words(now.watts, now.celsius, now.slowed)
        seconds = self._pace.seconds_for(left)
        if seconds is not None:
            parts.append(f"{duration(seconds)} left")
        return " · ".join(parts)

    def show(self, done: int, total: int, details: str) -> None:
        """Show how far the run is."""

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False)


class PlainWatcher(RunWatcher):
    """Lines every few seconds: for logs and pipes."""

    _last = 0.0

    def show(self, done: int, total: int, details: str) -> None:
        now = time.monotonic()
        if now - self._last >= _PLAIN_SECONDS:
            self._last = now
            self._line(f"  {count(done)}/{plural(total, 'row')} · {details}")


class LiveWatcher(RunWatcher):
    """One line that changes in place."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._live, self._task = make_bar(console)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def planned(self, plan: Plan, forecast: Forecast) -> None:
        super().planned(plan, forecast)
        self._live.update(self._task, visible=True, description="loading the engine")

    def show(self, done: int, total: int, details: str) -> None:
        text = f"{count(done)}/{plural(total, 'row')} · {details}"
        self._live.update(self._task, completed=done, total=total, description=text)

    def waiting(self, why: str) -> None:
        super().waiting(why)
        if why:
            self._live.update(self._task, description=f"waiting: {why}")


def make_watcher(console: Console) -> RunWatcher:
    """A live display on a terminal, plain lines elsewhere."""
    return LiveWatcher(console) if console.is_terminal else PlainWatcher(console)


def print_result(console: Console, summary: Summary) -> None:
    """The block at the end of a run."""
    lines: list[str] = []
    new = summary.rows - summary.reused
    failed = new - summary.answered
    verb = "labelled" if summary.labels else "scored" if summary.scored_tokens else "completed"
    if new:
        tokens = summary.prompt_tokens_per_second + summary.completion_tokens_per_second
        speed = f"({rate(summary.rows_per_second)} rows/s, {rate(tokens)} tokens/s)"
        lines.append(
            f"{plural(summary.answered, 'row')} {verb} in {duration(summary.work_seconds)} "
            f"{speed}, {count(failed)} failed, {duration(summary.seconds)} in all"
        )
    if summary.energy_kwh is not None:
        each = summary.energy_wh_per_1000_rows
        per = f", {energy(each / 1000)} for 1 000 rows" if each is not None else ""
        cost = f", {summary.energy_cost:.2g}" if summary.energy_cost is not None else ""
        lines.append(f"{energy(summary.energy_kwh)} measured{per}{cost}")
    if summary.reused or not summary.rows:
        lines.append(f"{plural(summary.reused, 'row')} reused from an earlier run")
    if summary.labels:
        shares = " · ".join(f"{label} {count(n)}" for label, n in summary.labels.items())
        lines.append(shares)
    if summary.perplexity is not None:
        scored = plural(summary.scored_tokens, "token")
        lines.append(f"perplexity {summary.perplexity:.4g} over {scored}")
    if summary.accuracy is not None:
        lines[-1] += f" · agreement with `{summary.gold}` {summary.accuracy:.3f}"
    if summary.left:
        lines.append(f"left for the next run: {some_of(summary.left, _NAMED)}")
    console.print()
    for line in lines:
        console.print(line, markup=False)
    for kind, number, why, fix in error_lines(summary):
        console.print(f"  {count(number)}  {kind}  {why} → {fix}", markup=False)
    console.print(
        f'→ {summary.output}    read it:  pandas.read_parquet("{summary.output}")', markup=False
    )
    console.print(f"→ {summary.output}/{REPORT}", markup=False)
