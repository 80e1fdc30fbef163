"""One simulated card: rows in, rows out, time and blocks accounted for."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from pipeline.admission.demand import Demand
from pipeline.admission.policy import Limits, Policy
from pipeline.budget.cards.lookup import find_card
from pipeline.budget.kv_layout import KvLayout
from pipeline.budget.step_time import StepWork
from pipeline.errors import UsageError
from pipeline.rows.trace import TraceRow
from pipeline.simulate.card import CardSetup, CardSim, run_card
from pipeline.simulate.outcome import SimulationOutcome
from pipeline.simulate.policies import check_policy, make_policy
from tests.support.samples import GEMMA_27B

MAX_TOKENS = 200
NAMES = ["packed", "engine", "static:6", "worst-case", "oracle"]


class OneSecond:
    """Every step takes a second."""

    def seconds(self, work: StepWork) -> float:
        return float(work.steps)


SETUP = CardSetup(
    find_card("rtx3090"),
    KvLayout(GEMMA_27B, 16, 1024),
    pool_blocks=700,
    max_num_seqs=12,
    max_num_batched_tokens=512,
    max_model_len=2048,
    step_time=OneSecond(),
)


def trace(rows: int, *, seed: int = 0, groups: int = 0) -> list[TraceRow]:
    rng = random.Random(seed)
    made = []
    for i in range(rows):
        prompt, output = rng.randint(5, 150), rng.randint(1, MAX_TOKENS)
        if groups:
            made.append(TraceRow(i, prompt + 64, output, rng.randrange(groups), 64))
        else:
            made.append(TraceRow(i, prompt, output))
    return made


def card(policy: str = "engine", **changes: object) -> CardSim:
    return CardSim(replace(SETUP, **changes), policy, max_tokens=MAX_TOKENS)  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", NAMES)
@pytest.mark.parametrize("groups", [0, 3])
def test_every_row_ends_once_with_all_blocks_accounted_for(policy: str, groups: int) -> None:
    rows = trace(60, groups=groups)
    sim = card(policy)
    sim.ending = True
    sim.give(rows)
    ended: list[TraceRow] = []
    while sim.busy:
        ended += sim.step()
        sim.engine.check()
        assert len(ended) + sim.active + sim.unstarted == len(rows)
    assert sorted(row.id for row in ended) == list(range(60))
    assert sim.engine.used == 0
    assert sim.totals.output_tokens == sum(row.output_tokens for row in rows)


@pytest.mark.parametrize("policy", NAMES)
def test_it_comes_out_the_same_every_time(policy: str) -> None:
    first, again = card(policy), card(policy)
    assert run_card(first, trace(40)) == run_card(again, trace(40))
    assert first.now == again.now


class Spy:
    """All that a policy is told, as one may compare it."""

    def __init__(self, policy: Policy) -> None:
        self.told: list[object] = []
        self._policy = policy
        self.patience = policy.patience

    def __len__(self) -> int:
        return len(self._policy)

    @property
    def wanted(self) -> int | None:
        return self._policy.wanted

    def __getattr__(self, name: str) -> object:
        def heard(*values: object, **named: object) -> object:
            self.told.append((name, values, sorted(named.items())))
            return getattr(self._policy, name)(*values, **named)

        return heard


@pytest.mark.parametrize("policy", ["packed", "engine", "static:6", "worst-case"])
def test_a_policy_cannot_see_a_length_before_it_happens(policy: str) -> None:
    """Two traces whose answers differ only beyond 30 tokens look alike for 30 steps."""
    told = []
    for longer in (0, 50):
        sim = card(policy, pool_blocks=2000)
        spy = Spy(sim._policy)
        sim._policy = spy  # type: ignore[assignment]
        sim.give([TraceRow(i, 20 + i, 40 + longer) for i in range(30)])
        sim._limit = lambda: 1  # type: ignore[method-assign]
        while sim.now < 30:
            sim.step()
        told.append(spy.told)
    assert told[0] == told[1]
    assert len(told[0]) > 30


def test_only_the_oracle_is_given_the_truth() -> None:
    limits = Limits(SETUP.layout, 700, 12, 512, MAX_TOKENS)
    engine, truth = card().engine, {1: 5}
    for told in (engine, truth):
        holders = [
            name
            for name in NAMES
            if any(kept is told for kept in vars(make_policy(name, limits, engine, truth)).values())
        ]
        assert holders == ["oracle"]
    assert "output_tokens" not in Demand.__dataclass_fields__


def test_steps_at_once_take_as_long_as_one_by_one() -> None:
    quick, slow = card("static:6"), card("static:6")
    slow.engine.calm_steps = lambda limit: 0  # type: ignore[method-assign]
    assert run_card(quick, trace(40)) == run_card(slow, trace(40))
    assert quick.now == slow.now
    assert quick.preemptions == slow.preemptions


def test_no_more_than_k_run_under_static_k() -> None:
    sim = card("static:3")
    sim.give(trace(20))
    while sim.busy:
        sim.step()
        assert len(sim.engine.running) <= 3


def test_the_worst_case_and_the_oracle_never_preempt() -> None:
    for policy in ("worst-case", "oracle"):
        sim = card(policy, pool_blocks=500)
        run_card(sim, trace(60))
        assert sim.preemptions == 0, policy


def test_vllms_own_admission_preempts_and_computes_again() -> None:
    sim = card("engine", pool_blocks=400)
    run_card(sim, trace(60))
    assert sim.preemptions
    assert 0 < sim.recomputed_tokens < sim.computed_tokens


def test_rows_not_started_can_be_taken_back() -> None:
    for policy in NAMES:
        sim = card(policy)
        rows = trace(60)
        sim.give(rows)
        ended = [*sim.step(), *sim.step()]
        back = sim.take_back()
        assert back, policy
        assert sim.unstarted == 0
        while sim.busy:
            ended += sim.step()
        assert sorted(row.id for row in [*back, *ended]) == list(range(60)), policy


def test_rows_taken_back_may_be_given_again() -> None:
    sim = card("packed")
    sim.give(trace(30))
    sim.step()
    assert len(run_card(sim, sim.take_back())) == 30


def test_an_engine_that_fails_loses_all_its_rows_and_starts_empty() -> None:
    sim = card("engine")
    sim.give(trace(20))
    ended = [row for _ in range(12) for row in sim.step()]
    lost = sim.fail()
    assert len(lost) + len(ended) == 20
    assert not sim.busy
    assert len(run_card(sim, lost)) == len(lost)


def test_a_row_waits_until_it_arrives() -> None:
    sim = card("engine")
    late = TraceRow(0, 10, 5, arrival=100.0)
    run_card(sim, [late])
    assert sim.now == pytest.approx(105)
    assert sim.totals.busy == pytest.approx(5)


def test_a_row_that_can_never_fit_is_an_error_with_its_blocks() -> None:
    sim = card("engine", pool_blocks=100)
    ended = run_card(sim, [TraceRow(0, 400, 100), TraceRow(1, 10, 5)])
    assert [row.id for row in ended] == [1]
    (error,) = sim.errors
    assert "400 + 100 tokens needs 224 KV blocks, there are 100" in error.message


def test_a_row_that_just_fits_ends() -> None:
    blocks = SETUP.layout.full_groups + SETUP.layout.sliding_groups
    sim = card("engine", pool_blocks=blocks * 10)
    assert run_card(sim, [TraceRow(0, 100, 60)])
    assert card("engine", pool_blocks=blocks * 10 - 1).never_fits(TraceRow(0, 100, 60))


def test_an_engine_that_notices_ends_late_computes_a_token_more() -> None:
    rows = [TraceRow(0, 10, 20), TraceRow(1, 10, MAX_TOKENS)]
    prompt, late = card("engine"), card("engine", overrun=1)
    assert run_card(prompt, rows) == run_card(late, rows)
    assert late.totals.output_tokens == prompt.totals.output_tokens
    assert late.engine.computed_tokens == prompt.engine.computed_tokens + 2


@pytest.mark.parametrize("policy", NAMES)
def test_a_policy_that_is_told_late_has_every_row_answered(policy: str) -> None:
    rows = trace(60)
    sim = card(policy, overrun=1, steps_ahead=2)
    assert sorted(row.id for row in run_card(sim, rows)) == list(range(60))
    sim.engine.check()


@pytest.mark.parametrize("answer", [8, 30])
def test_what_is_told_late_costs_next_to_nothing(answer: int) -> None:
    """Room is promised ahead: as if ends were seen as soon as the engine sees them."""
    rows = [TraceRow(i, 100, answer) for i in range(400)]

    def seconds(steps_ahead: int) -> float:
        sim = card("packed", overrun=1, steps_ahead=steps_ahead, max_num_seqs=64)
        run_card(sim, rows)
        return sim.now

    assert seconds(2) <= 1.01 * seconds(1)


def test_the_outcome_has_the_documented_keys() -> None:
    sim = card("engine")
    run_card(sim, trace(20))
    told = SimulationOutcome.of([sim]).as_json()
    figures = {
        *("makespan_seconds", "output_tokens_per_second", "preemptions", "recomputed_tokens"),
        *("recomputed_share", "mean_kv_use", "mean_batch", "tail_idle_share"),
    }
    assert set(told) == figures | {"per_gpu", "errors"}
    assert set(told["per_gpu"][0]) == figures | {"gpu", "rows"}
    assert told["makespan_seconds"] == sim.now
    assert told["tail_idle_share"] == 0


def test_the_tail_is_the_time_of_cards_that_are_done() -> None:
    busy, idle = card("engine"), card("engine")
    run_card(busy, [TraceRow(0, 10, 100)])
    run_card(idle, [TraceRow(1, 10, 50)])
    assert SimulationOutcome.of([busy, idle]).whole.tail_idle_share == pytest.approx(0.25)


@pytest.mark.parametrize("name", ["packd", "static", "static:0", "static:x", "static:-1", ""])
def test_an_unknown_policy_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="policy"):
        check_policy(name)
