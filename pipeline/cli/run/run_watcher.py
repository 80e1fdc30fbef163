"""What a run shows while it runs: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NoReturn

import typer

from pipeline.cli.run.signals import stopping_on_signals
from pipeline.cli.terminal.console import ERR, ProgressLine, only_data_on_stdout, tell
from pipeline.cli.try_out.plan.forecast import cards_in_words, time_in_words
from pipeline.driver.coordinator.coordinator import Snapshot
from pipeline.driver.forecast.types import Forecast
from pipeline.driver.plan.plan import Plan
from pipeline.driver.progress.watcher import Watcher
from pipeline.driver.stop.stop import Stop
from pipeline.engine.machine.card_notes import CardsNow, readings_in_words
from pipeline.errors import some_of
from pipeline.humanize import count, duration, energy, money, plural, rate, size
from pipeline.output.commit.records import REPORT
from pipeline.report.fixes import error_lines
from pipeline.report.pace import Pace
from pipeline.report.summary import Summary

_NAMED = 5  # files that are listed by name


class RunWatcher(ProgressLine, Watcher):
    """Prints a run's progress to stderr."""

    def __init__(self) -> None:
        super().__init__()
        self._started = time.monotonic()
        self._pace = Pace()
        self._engines_shown = 0
        self._waits_for = ""

    def note(self, line: str) -> None:
        ERR.print(f"  {line}")

    def planned(self, plan: Plan, forecast: Forecast) -> None:
        job, shape = plan.job, plan.sample.shape
        shards = plural(len(plan.input.files.shards), "shard")
        ERR.print(
            f"{job.name} · {plan.model.name} {plan.model.quantization} · "
            f"{plural(plan.input.rows, 'row')} in {shards} → {job.output.path}"
        )
        if plan.committed:
            ERR.print(
                f"  resuming: {count(plan.reused.rows)} of {plural(plan.input.rows, 'row')} "
                f"are already there ({plan.units_done} of {plural(len(plan.units), 'unit')})"
            )
        ERR.print(
            f"  plan    {plural(forecast.engines, 'engine')} ({cards_in_words(forecast)}) · "
            f"{shape.mean:.0f} tokens/row, {shape.shared_prefix} shared · "
            f"{time_in_words(forecast)}"
        )
        when = job.resources.when
        if when is None or when.open(datetime.now(UTC)):
            ERR.print("  engine  loading")
        self.begin("loading the engine")

    def worker_lost(self, worker: str, why: str) -> None:
        ERR.print(f"  {worker} stopped and is replaced: {why}")

    def waiting(self, why: str) -> None:
        if why != self._waits_for:
            self._waits_for = why
            if why:
                ERR.print(f"  waiting: {why}")
                self.describe(f"waiting: {why}")

    def stopping(self, requests: int | None, grace_seconds: float, by: str) -> None:
        asked = f", as {by} asks" if by else ""
        if requests == 0:
            what = "nothing is in flight"
        elif not grace_seconds:
            what = "at once"
        else:
            flying = "what is" if requests is None else plural(requests, "request")
            what = f"finishing {flying} in flight, at most {duration(grace_seconds)}"
        ERR.print(f"  stopping{asked}: {what}; Ctrl-C again stops at once")

    def progress(self, snapshot: Snapshot, plan: Plan) -> None:
        for facts in list(snapshot.engines.values())[self._engines_shown :]:
            self._engines_shown += 1
            kv = f"KV {size(facts.kv_bytes)}" if facts.kv_bytes else "KV"
            kv += f" on each of {facts.cards} cards" if facts.cards > 1 else ""
            ERR.print(
                f"  engine  ready after {duration(time.monotonic() - self._started)} · {kv}, "
                f"{count(facts.num_blocks)} blocks of {facts.block_size} tokens"
                + (f" · computed in {facts.computed_in}" if facts.computed_in else "")
            )
        if self._waits_for:
            return
        if self._pace.note(time.monotonic(), snapshot.workers.values()):
            done = min(plan.reused.rows + self._pace.rows, plan.input.rows)
            details = self._details(snapshot, plan.input.rows - done)
            text = f"{count(done)}/{plural(plan.input.rows, 'row')} · {details}"
            self.show(text, done, plan.input.rows)

    def _details(self, snapshot: Snapshot, left: int) -> str:
        use = " ".join(f"{p.kv_use:.0%}" for p in snapshot.workers.values() if p.running) or "0%"
        failed = sum(p.error_rows for p in snapshot.workers.values())
        written = sum(p.generated for p in snapshot.workers.values())
        begun = written and not self._pace.rows  # long answers: no row has ended yet
        parts = [
            f"{plural(written, 'token')} written"
            if begun
            else f"{rate(self._pace.rows_per_second)} rows/s",
            f"{rate(self._pace.tokens_per_second)} tokens/s",
            f"KV {use}",
            f"{failed} failed",
        ]
        now = CardsNow.of(snapshot.active.values())
        parts += readings_in_words(now.watts, now.celsius, now.slowed)
        seconds = self._pace.seconds_for(left)
        if seconds is not None:
            parts.append(f"{duration(seconds)} left")
        return " · ".join(parts)


@contextmanager
def attended() -> Iterator[tuple[RunWatcher, Stop]]:
    """A run from the command line: stderr shows its progress, and signals stop it."""
    stop = Stop()
    with RunWatcher() as watcher, only_data_on_stdout(), stopping_on_signals(stop):
        yield watcher, stop


def end_with(summary: Summary, as_json: bool = False) -> NoReturn:
    """Print the result of a run, and exit with its code."""
    tell(summary, print_result, as_json=as_json)
    raise typer.Exit(summary.exit_code)


def question_lines(questions: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each of several questions: its answers, and how many are right if that is
    known."""
    lines = []
    for name, one in questions.items():
        shares = " · ".join(f"{label} {count(n)}" for label, n in one["labels"].items())
        agrees = one["accuracy"]
        right = f" · agreement {agrees:.3f} over {count(one['graded'])}" if one["graded"] else ""
        lines.append(f"{name}: {shares}{right if agrees is not None else ''}")
    return lines


def print_result(summary: Summary) -> None:
    """The block at the end of a run, on stderr."""
    lines: list[str] = []
    new = summary.rows - summary.reused
    failed = new - summary.answered
    verb = (
        "labelled"
        if summary.labels or summary.questions
        else "scored"
        if summary.scored_tokens
        else "completed"
    )
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
        cost = f", {money(summary.energy_cost)}" if summary.energy_cost is not None else ""
        lines.append(f"{energy(summary.energy_kwh)} measured{per}{cost}")
    if summary.rows and not new:
        gone = f", {count(summary.failed)} of them failed" if summary.failed else ""
        there = f"{plural(summary.rows, 'row')} are there already{gone}"
        lines.append(f"nothing was to be done: {there}")
    elif summary.reused or not summary.rows:
        lines.append(f"{plural(summary.reused, 'row')} reused from an earlier run")
    if summary.labels:
        shares = " · ".join(f"{label} {count(n)}" for label, n in summary.labels.items())
        lines.append(shares)
    lines += question_lines(summary.questions)
    if summary.perplexity is not None:
        scored = plural(summary.scored_tokens, "token")
        lines.append(f"perplexity {summary.perplexity:.4g} over {scored}")
    if summary.accuracy is not None:
        lines[-1] += f" · agreement with `{summary.gold}` {summary.accuracy:.3f}"
    if summary.left:
        lines.append(f"left for the next run: {some_of(summary.left, _NAMED)}")
    ERR.print()
    for line in lines:
        ERR.print(line)
    for kind, number, why, fix in error_lines(summary):
        ERR.print(f"  {count(number)}  {kind}  {why} → {fix}")
    if summary.failed:
        ERR.print(f"  see them: rackmill show {summary.output} --errors")
    ERR.print(f'→ {summary.output}    read it:  pandas.read_parquet("{summary.output}")')
    ERR.print(f"→ {summary.output}/{REPORT}")
