"""`rackmill simulate`: how long a trace would take on cards, with an admission policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.budget.cards.lookup import Card, parse_gpus
from pipeline.budget.engine_arguments import scoring_arguments
from pipeline.budget.fit.advice import refusal
from pipeline.budget.fit.fit import fit
from pipeline.budget.model_spec import FitOptions, ModelSpec
from pipeline.budget.tensor_parallel import cards_needed
from pipeline.cli.options import Json, KvDtype
from pipeline.cli.terminal.console import ERR, OUT, print_json
from pipeline.cli.try_out.fit.command import card_named, reported_overhead, subjects
from pipeline.errors import UsageError
from pipeline.job.file.load import job_from
from pipeline.job.job import Score
from pipeline.job.registries.admission_policies import ADMISSION_POLICIES

if TYPE_CHECKING:
    from pipeline.budget.predict import Estimate
    from pipeline.budget.step_time import StepTime
    from pipeline.rows.trace import TraceRow
    from pipeline.simulate.card import CardSetup
    from pipeline.simulate.outcome import SimulationOutcome
    from pipeline.simulate.run_trace import Trace

_MOST_CARDS = 4096
_ROWS_FAILED = 3  # the same as for `run`

_ANY_JOB = {
    "name": "simulate",
    "model": "gemma-3-27b",
    "input": {"path": "."},
    "prompt": {"column": "prompt"},
    "output": {"path": "."},
}

_FORMS = [policy.form for policy in ADMISSION_POLICIES]


def simulate_command(
    trace: Annotated[
        Path,
        typer.Option(
            metavar="FILE|OUTPUT", help="prompt_tokens, output_tokens; or a run's output."
        ),
    ],
    model: Annotated[str, typer.Option(metavar="NAME|DIR", help="As gemma-3-27b.")],
    gpu: Annotated[
        str, typer.Option(metavar='"4x rtx3090,…"', help="These cards; cpu: this processor.")
    ],
    policy: Annotated[
        str, typer.Option(metavar="NAME", help=f"{', '.join(_FORMS)} or oracle.")
    ] = "packed",
    kv_dtype: KvDtype = "auto",
    max_tokens: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Limit of every answer (default: the longest)."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="engine.KEY=VALUE", help="An engine setting (may be repeated)."
        ),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Measured step times (`calibrate`).")
    ] = None,
    failures: Annotated[
        float, typer.Option(min=0, metavar="RATE", help="Engine deaths per card and hour.")
    ] = 0.0,
    as_json: Json = False,
) -> None:
    """Replay a trace on simulated cards. Exit 3: some rows fit none of them."""
    from pipeline.cli.models_and_machines.simulate.show import prefixes_in_words, simulation_lines
    from pipeline.driver.forecast.learned import slowdown, with_slowdown
    from pipeline.simulate.policies import check_policy
    from pipeline.simulate.run_trace import read_trace

    check_policy(policy)
    asked = _asked(gpu)
    model_spec = subjects(model)[0]
    read = read_trace(trace)
    rows = read.rows
    limit = _checked(read, trace, max_tokens)
    limit = min(limit, model_spec.geometry.context)  # no answer is longer, and no longer row runs
    step_time = _calibrated(calibration, [card for _, card in asked])
    made = _setups(model_spec, asked, read, limit, kv_dtype, _given(settings), step_time)
    engines = sum(number for number, _ in made)
    setups: list[CardSetup] = []
    learned: dict[Card, Estimate] = {}
    for number, setup in made:
        if step_time is None:
            learned[setup.card] = slowdown(model_spec, setup, read, limit, engines)
            setup = with_slowdown(setup, learned[setup.card])
        setups += [setup] * number
    outcome = _simulate(setups, policy, rows, limit, failures)
    if as_json:
        print_json(outcome.as_json())
        ERR.print(f"trace: {prefixes_in_words(read)}")
    else:
        for line in simulation_lines(outcome, model_spec, policy, read, learned):
            OUT.print(line)
    raise typer.Exit(_ROWS_FAILED if outcome.errors else 0)


def _simulate(
    setups: Sequence[CardSetup],
    policy: str,
    rows: Sequence[TraceRow],
    max_tokens: int,
    failures: float,
) -> SimulationOutcome:
    from pipeline.simulate.card import CardSim, run_card
    from pipeline.simulate.cards import simulate_rack
    from pipeline.simulate.outcome import SimulationOutcome

    if len(setups) == 1 and not failures:
        card = CardSim(setups[0], policy, max_tokens=max_tokens)
        run_card(card, rows)
        return SimulationOutcome.of([card])
    return simulate_rack(setups, policy, rows, max_tokens=max_tokens, failures_per_hour=failures)


def _checked(trace: Trace, path: Path, max_tokens: int | None) -> int:
    """The answer limit of every request. Raises UsageError."""
    longest = max(row.output_tokens for row in trace.rows)
    if max_tokens is not None and longest > max_tokens:
        row = next(row for row in trace.rows if row.output_tokens > max_tokens)
        raise UsageError(
            f"trace: {path}, row {row.id + 1}: output_tokens {row.output_tokens} is above "
            f"--max-tokens {max_tokens}",
            f"--max-tokens {longest} or more",
        )
    known = trace.shape.max_tokens if trace.shape else 0
    return max_tokens or max(known, longest)


def _asked(text: str) -> list[tuple[int, Card]]:
    """ "2x rtx3090,rtx4090" -> (number, card) for each machine."""
    asked = parse_gpus(text, card_named)
    if sum(number for number, _ in asked) > _MOST_CARDS:
        raise UsageError(f"gpu: more than {_MOST_CARDS} cards")
    return asked


def _calibrated(path: Path | None, cards: Sequence[Card]) -> StepTime | None:
    from pipeline.engine.standalone.calibrate import read_calibration

    if path is None:
        return None
    if len(set(cards)) > 1:
        raise UsageError("calibration: one engine's step times cannot stand for several cards")
    return read_calibration(path)


def _given(settings: Sequence[str] | None) -> dict[str, Any]:
    """The vLLM arguments in ``--set engine.KEY=VALUE``."""
    for line in settings or ():
        if not line.startswith("engine."):
            raise UsageError(f"--set {line}: simulate knows engine.… settings only")
        if line.startswith("engine.admission="):
            policy = line.partition("=")[2]
            raise UsageError(f"--set {line}: for simulate it is --policy {policy}")
    job = job_from(_ANY_JOB, settings or ())
    return job.engine.vllm_arguments()


def _setups(
    model_spec: ModelSpec,
    asked: Sequence[tuple[int, Card]],
    trace: Trace,
    max_tokens: int,
    kv_dtype: str,
    given: dict[str, Any],
    step_time: StepTime | None,
) -> list[tuple[int, CardSetup]]:
    """(number of engines, their setup) for each kind: one engine per card, or per slot of several
    where the model needs them. Cards left over or out are reported. Raises UsageError if none is
    left."""
    from pipeline.budget.step_time import ScoringTime
    from pipeline.cluster.card_slots import asked_slots
    from pipeline.simulate.card_setup import card_setup

    rows, shape = trace.rows, trace.shape
    usual = sorted(row.tokens for row in rows)[len(rows) // 2]
    scores = shape is not None and shape.scores
    arguments = (scoring_arguments(Score(), given) if scores else {}) | given
    options = FitOptions(min(usual, model_spec.geometry.context), kv_dtype, given=arguments)

    def needed(card: Card, alike: int) -> int:
        return 1 if card.is_cpu else cards_needed(model_spec, card, options, alike)

    slots, left_over = asked_slots(asked, needed, int(given.get("tensor_parallel_size") or 1))
    for line in left_over:
        ERR.print(line)
    # a plan after a run knows how long the answers were
    answers = sum(row.output_tokens for row in rows) / len(rows) if shape else None
    made, errors = [], []
    for number, card, cards in slots:
        overhead = reported_overhead(model_spec, card, cards)
        asks = replace(options, cards=cards, overhead_correction=overhead)
        if (error := refusal(fit(model_spec, card, asks))) is not None:
            errors.append(error)
            continue
        setup = card_setup(
            model_spec.geometry,
            model_spec.weights,
            card,
            rows,
            max_tokens,
            asks.arguments,
            step_time,
            overhead,
            answers,
        )
        if scores:
            setup = replace(setup, step_time=ScoringTime(setup.step_time))
        made.append((number, setup))
    if errors and not made:
        raise errors[0]
    for error in errors:
        ERR.print(f"left out: {error.message} {' '.join(error.hints)}")
    return made
