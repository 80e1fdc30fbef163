"""`rackmill try`: what a job makes of its first rows, in seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.cluster.engine_groups import local_groups
from pipeline.driver.forecast.forecast import Forecaster
from pipeline.driver.plan.ask_servers import ask_servers
from pipeline.driver.plan.first_rows import first_rows
from pipeline.driver.plan.plan import InputPlan, check_input, make_plan
from pipeline.driver.trial.client import EngineStart, WarmEngine, engine_key
from pipeline.engine.load import check_answer_shape, load_engine
from pipeline.engine.machine.host import cpu_environment
from pipeline.engine.vllm.engine import environment as vllm_environment
from pipeline.errors import RowErrorType
from pipeline.job.answer.questions import AskedQuestion
from pipeline.job.job import Job
from pipeline.model.stand_in import resolve_for_planning
from pipeline.output.columns.results import RowResult
from pipeline.prompt.builder import tokenizer_of
from pipeline.report.profile import load_profile
from pipeline.worker.answer_rows import Row, RowPlace, answer_rows

Say = Callable[[str], None]


@dataclass(frozen=True)
class TriedRow:
    """One row and what came of it. ``golds``: the right answers that are known, by the question;
    that of a job with one question is called ``label``."""

    place: RowPlace
    values: Row  # those columns of the input that the prompt reads
    result: RowResult
    golds: Mapping[str, str] = field(default_factory=dict)
    asked: tuple[AskedQuestion, ...] = ()

    @property
    def wrong(self) -> dict[str, str]:
        """The right answers that the row has not."""
        labels = dict(zip((one.name for one in self.asked), self.result.answers, strict=False))
        given = {name: answer.label for name, answer in labels.items()}
        given.setdefault("label", self.result.label)
        return {name: gold for name, gold in self.golds.items() if given.get(name) != gold}


@dataclass(frozen=True)
class Trial:
    """``seconds``: that the answers took, without loading; ``warm``: the engine was loaded."""

    rows: Sequence[TriedRow]
    seconds: float
    warm: bool

    @property
    def graded(self) -> int:
        """Answers of which the right one is known."""
        return sum(len(row.golds) for row in self.rows)

    @property
    def right(self) -> int:
        return self.graded - sum(len(row.wrong) for row in self.rows)


def try_rows(job: Job, number: int, say: Say, engine: WarmEngine | None = None) -> Trial:
    """Answer the first ``number`` rows; nothing is written. An engine that is still loaded from the
    last time answers at once; else one is loaded, and stays for ten minutes.

    Raises UsageError, EngineFailed.
    """
    inputs = check_input(job)
    check_answer_shape(job)
    rows, places, golds = first_rows(inputs, number)
    results, seconds, warm = answer_now(job, rows, places, lambda: inputs, say, engine)
    asked = job.asked if job.questions else ()
    parts = zip(places, rows, results, golds, strict=True)
    return Trial([TriedRow(*one, asked) for one in parts], seconds, warm)


def answer_now(
    job: Job,
    rows: Sequence[Row],
    places: Sequence[RowPlace],
    inputs: Callable[[], InputPlan],
    say: Say,
    engine: WarmEngine | None = None,
) -> tuple[list[RowResult], float, bool]:
    """What becomes of ``rows``, the seconds that it took without loading, and whether an engine was
    loaded already. ``inputs``: by which one is chosen, if it has to be loaded.

    Raises UsageError, EngineFailed.
    """
    if not (job.engine.computes or job.engine.served):
        return *_rehearse(job, rows, places), True
    warm = engine or WarmEngine()
    loaded = warm.key()
    fits = loaded == engine_key(job)
    if not fits:
        _start(inputs(), warm, say, loaded=loaded is not None)
    started = time.monotonic()
    results = warm.answer(job, rows, places)
    if fits and any(_too_long(result) for result in results):
        # the engine that was there has room for the requests of another prompt
        _start(inputs(), warm, say, loaded=True)
        started = time.monotonic()
        results = warm.answer(job, rows, places)
    return results, time.monotonic() - started, fits


def _rehearse(
    job: Job, rows: Sequence[Row], places: Sequence[RowPlace]
) -> tuple[list[RowResult], float]:
    model = resolve_for_planning(job.model)
    tokenizer = tokenizer_of(job, model)
    engine = load_engine(job, job.engine.vllm_arguments(), model)
    started = time.monotonic()
    try:
        results = answer_rows(job, rows, places, engine, tokenizer)
    finally:
        engine.close()
    return results, time.monotonic() - started


def _start(inputs: InputPlan, warm: WarmEngine, say: Say, *, loaded: bool) -> None:
    if loaded:
        say("another engine is loaded: it makes room")
        warm.end()
    plan = make_plan(inputs, fresh=True, report=say)
    ask_servers(plan, say)
    forecaster = Forecaster(plan, load_profile())
    groups = forecaster.usable(local_groups(plan.job, 1, forecaster.spread, say), say)
    group = groups[0]
    choice, slot = forecaster.choose(group), group.slots[0]
    eager = bool(choice.arguments.get("enforce_eager"))
    environment = vllm_environment(gpu=group.on_cards, eager=eager, core=plan.job.engine.core)
    if not group.on_cards:
        parts = plan.job.engine.tensor_parallel_size or 1
        environment |= cpu_environment(slot.index, slot.of, parts=parts)
    say("engine  loading; it stays for ten minutes")
    warm.start(EngineStart(plan.job, choice.arguments, environment, slot.cards), say)


def _too_long(result: RowResult) -> bool:
    return result.error is not None and result.error.type is RowErrorType.PROMPT_TOO_LONG
