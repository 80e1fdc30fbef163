"""What this machine's profile of runs says of a simulated engine: the same as it says of a plan."""

from __future__ import annotations

from dataclasses import replace

from pipeline.budget.model_spec import ModelSpec
from pipeline.budget.predict import Estimate, RowCost, Workload, estimate
from pipeline.budget.step_time import ScaledTime
from pipeline.cluster.engine_groups import EngineGroup, processor_with
from pipeline.engine.machine.facts import processor_name
from pipeline.engine.machine.host import cores
from pipeline.report.profile import load_profile
from pipeline.simulate.card import CardSetup
from pipeline.simulate.row_cost import row_cost
from pipeline.simulate.run_trace import Trace

_SIMULATED_ROWS = 128


def slowdown(
    model_spec: ModelSpec, setup: CardSetup, trace: Trace, max_tokens: int, engines: int
) -> Estimate:
    """How much slower than by ``setup``'s step times runs of that model on such a card were, those
    most like ``trace``; ``runs`` 0: there were none. ``engines``: that share the trace."""

    def model(workload: Workload) -> RowCost:
        return row_cost(setup, workload, workload.rows, max_tokens, _SIMULATED_ROWS)

    processor = processor_with(processor_name(), len(cores()))
    card = EngineGroup(1, setup.card, processor, cards=setup.cards).name  # as the profile has it
    runs = [
        record.run
        for record in load_profile()
        if record.engine == "vllm"
        and record.card == card
        and record.model.startswith(f"{model_spec.name} {model_spec.precision}")
    ]
    if not runs:
        return Estimate(RowCost(0.0, 0.0), 0.0, 0.0, "roofline")
    workload = _workload(trace, engines)
    return estimate(workload, model, runs, ready_seconds=0.0, other_seconds=0.0)


def with_slowdown(setup: CardSetup, learned: Estimate) -> CardSetup:
    if not learned.runs:
        return setup
    return replace(setup, step_time=ScaledTime(setup.step_time, learned.slowdown))


def _workload(trace: Trace, engines: int) -> Workload:
    rows, shape = trace.rows, trace.shape
    answers = shape.answers if shape else 1
    return Workload(
        shape.kind if shape else "text",
        max(1, (trace.rows_of_run or len(rows)) // engines),
        sum(row.prompt_tokens for row in rows) / len(rows),
        shape.common_tokens if shape else trace.shared_tokens,
        sum(row.output_tokens for row in rows) / len(rows) * answers,
        requests=answers,
        answers=answers,
        asks=shape.asks if shape else (),
    )
