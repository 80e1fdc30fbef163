"""What `plan` foretells and `run` starts from: fit, settings, time, energy, money and levers."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline import UsageError
from pipeline.budget.cards.lookup import cpu_card, find_card
from pipeline.budget.roofline import decode_tokens_per_second
from pipeline.cluster.engine_groups import EngineGroup, asked_groups, local_groups
from pipeline.cluster.slots import spread_of
from pipeline.driver.forecast import forecast as module
from pipeline.driver.forecast.forecast import Forecaster
from pipeline.driver.forecast.learning import learn
from pipeline.driver.forecast.types import Forecast, Prices, done_at, seconds_to_spare
from pipeline.driver.plan.plan import Plan
from pipeline.model.catalogue import MODELS
from pipeline.report.profile import ProfileEntry, load_profile
from pipeline.report.summary import Summary
from tests.samples import job, write_model

ROWS = 300
CPU = EngineGroup(1, cpu_card(16 << 30, 2), "some processor, cores: 2")


@pytest.fixture(autouse=True)
def _own_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RACKMILL_PROFILE", str(tmp_path / "profile.jsonl"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"text": f"a longer tweet about number {i}", "n": i} for i in range(ROWS)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    write_model(tmp_path / "model")
    return tmp_path


@pytest.fixture
def plan_of(folder: Path):
    def make(**changes: Any) -> Plan:
        places = {
            "model": str(folder / "model"),
            "input": {"path": str(folder / "in.parquet")},
            "output": {"path": str(folder / "out")},
        }
        return pipeline.plan(job(**places | changes))

    return make


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


class TestTime:
    def test_before_any_run_it_is_a_guess_with_wide_bounds(self, plan_of) -> None:
        made = forecast(plan_of()).prediction

        assert made.basis == "roofline"
        low, high = made.bounds
        assert high / low >= 3

    @pytest.mark.parametrize("several", [True, False])
    def test_an_engine_for_several_questions_keeps_all_blocks(
        self, plan_of, monkeypatch: pytest.MonkeyPatch, several: bool
    ) -> None:
        seen = []
        whole = module.card_setup_from

        def noted(*args: Any, **more: Any) -> Any:
            seen.append(whole(*args, **more))
            return seen[-1]

        monkeypatch.setattr(module, "card_setup_from", noted)
        questions = {"urgent": {"predicate": "Is it urgent?"}, "new": {"predicate": "Is it new?"}}
        forecast(plan_of(**({"questions": questions, "label": None} if several else {})))

        assert {setup.dense_retention for setup in seen} == {several}

    def test_after_a_run_of_the_same_shape_its_time_is_foretold(self, plan_of) -> None:
        plan = plan_of()
        record = after_a_run(plan, completion_tokens=40, seconds=30)

        made = forecast(plan, records=[record])

        assert made.prediction.basis == "measured"
        assert made.prediction.work_seconds == pytest.approx(30, rel=0.01)
        assert made.prediction.seconds == pytest.approx(55, rel=0.01)

    @pytest.mark.parametrize("max_tokens", [64, 400, 2000])
    @pytest.mark.parametrize("group", [CPU, EngineGroup(1, find_card("rtx3090"))])
    def test_no_run_of_another_shape_teaches_more_tokens_a_second_than_the_card_can_write(
        self, plan_of, group: EngineGroup, max_tokens: int
    ) -> None:
        """Rows with answers of one token may be done faster than the model of the engine has it;
        long answers are still written at what `fit` says at most."""
        records = [
            after_a_run(plan_of(), completion_tokens=1, seconds=0.05, group=group) for _ in "abc"
        ]
        plan = plan_of(sampling={"max_tokens": max_tokens}, prompt="Write on: {text}")
        records = [replace(record, template="of another prompt") for record in records]
        made = forecast(plan, group, records)

        [fit] = Forecaster(plan, records).fits([group])
        written = made.workload.completion_tokens * made.workload.rows
        context = made.workload.prompt_tokens + made.workload.completion_tokens / 2
        most = decode_tokens_per_second(
            plan.model.geometry,
            fit.weights_bytes,
            group.share,
            batch=made.placed[0].choice.arguments["max_num_seqs"],
            context=round(context),
        )
        assert made.prediction.basis == "scaled"
        assert written / made.prediction.answer_seconds <= most * 1.01

    def test_a_run_on_another_processor_teaches_nothing(self, plan_of) -> None:
        plan = plan_of()
        record = after_a_run(plan, completion_tokens=40)

        other = replace(CPU, model="another processor")
        assert forecast(plan, other, [record]).prediction.basis == "roofline"

    def test_only_the_first_start_on_a_card_compiles(self, plan_of) -> None:
        """The run's 20 s until it was ready had 12 s of compiling in them."""
        plan, group = plan_of(), EngineGroup(1, find_card("rtx3090"))
        first = forecast(plan, group).prediction
        record = after_a_run(
            plan,
            completion_tokens=40,
            group=group,
            engines=({"kv_bytes": 1 << 30, "compile_seconds": 12.0},),
        )
        later = forecast(plan, group, [record]).prediction

        assert first.compile_seconds > 0
        assert (later.compile_seconds, later.ready_seconds) == (0, 8)

    def test_other_settings_are_compiled_for_anew(self, plan_of) -> None:
        group = EngineGroup(1, find_card("rtx3090"))
        record = after_a_run(
            plan_of(),
            completion_tokens=40,
            group=group,
            engines=({"kv_bytes": 1 << 30, "compile_seconds": 12.0},),
        )
        for engine, seconds in (({"max_num_seqs": 7}, 12), ({"enforce_eager": True}, 0)):
            made = forecast(plan_of(engine=engine), group, [record]).prediction
            assert (made.compile_seconds, made.ready_seconds) == (seconds, 8 + seconds)

    def test_two_faster_cards_need_half_the_time(self, plan_of) -> None:
        plan = plan_of(label={"choices": ["yes", "no"]}, engine={"max_num_seqs": 64})
        one = forecast(plan, EngineGroup(1, find_card("rtx3090"))).prediction
        two = forecast(plan, EngineGroup(2, find_card("rtx3090"))).prediction

        # not quite: each computes the shared prefix, and its last requests run alone
        assert two.work_seconds == pytest.approx(one.work_seconds / 2, rel=0.1)
        assert two.ready_seconds == one.ready_seconds

    def test_engines_on_one_processor_share_it(self, plan_of) -> None:
        plan = plan_of()
        one, two = (forecast(plan, replace(CPU, number=n)).prediction for n in (1, 2))

        assert two.work_seconds >= 0.9 * one.work_seconds


class TestAnswers:
    def test_their_length_is_guessed_from_the_limit_at_first(self, plan_of) -> None:
        made = forecast(plan_of(sampling={"max_tokens": 64}))

        assert made.workload.completion_tokens == pytest.approx(32)
        assert "guess" in made.answer_basis

    def test_their_length_is_that_of_the_last_run_of_the_prompt(self, plan_of) -> None:
        plan = plan_of()
        record = after_a_run(plan, completion_tokens=7)

        made = forecast(plan, records=[record])

        assert made.workload.completion_tokens == pytest.approx(7)
        assert made.answer_basis == "the last run of this prompt"

    def test_another_prompt_learns_no_length(self, plan_of) -> None:
        record = after_a_run(plan_of(), completion_tokens=7)

        made = forecast(plan_of(prompt="Say more: {text}"), records=[record])

        assert "guess" in made.answer_basis

    def test_labels_are_as_long_as_their_choices(self, plan_of) -> None:
        made = forecast(plan_of(label={"choices": ["yes", "no"]}))

        assert made.workload.kind == "choices"
        assert made.answer_basis == "the choices"


class TestPrices:
    def test_energy_is_watts_times_time(self, plan_of) -> None:
        group = EngineGroup(2, find_card("rtx3090"))
        made = Forecaster(plan_of(), [], Prices(per_kwh=0.5, watts=200)).forecast([group])

        assert made.kwh == pytest.approx(0.4 * made.prediction.seconds / 3600)
        assert made.cost == pytest.approx(0.5 * made.kwh)

    def test_renting_costs_by_card_and_hour(self, plan_of) -> None:
        group = EngineGroup(3, find_card("rtx4090"))
        made = Forecaster(plan_of(), [], Prices(per_kwh=0, per_gpu_hour=2)).forecast([group])

        assert made.cost == pytest.approx(3 * 2 * made.prediction.seconds / 3600)


class TestLevers:
    def test_each_makes_the_job_shorter(self, plan_of) -> None:
        plan = plan_of()
        record = after_a_run(plan, completion_tokens=40, seconds=3000)
        made = forecast(plan, records=[record])

        assert [lever.what for lever in made.levers] == ["answers half as long"]
        assert all(lever.seconds < made.prediction.seconds for lever in made.levers)

    def test_fp8_is_no_lever_on_a_card_without_it(self, plan_of) -> None:
        made = forecast(plan_of(), EngineGroup(1, find_card("rtx3090")))

        assert not any("fp8" in lever.what for lever in made.levers)


class TestRefusal:
    def test_a_context_beyond_the_models_is_refused(self, plan_of) -> None:
        plan = plan_of(engine={"max_model_len": 40_000})

        with pytest.raises(UsageError, match="32k tokens of context"):
            Forecaster(plan, []).usable([CPU], print)

    def test_fp8_on_an_ampere_card_is_refused(self, plan_of) -> None:
        plan = plan_of(engine={"kv_cache_dtype": "fp8"})

        with pytest.raises(UsageError, match="fp8"):
            Forecaster(plan, []).usable([EngineGroup(1, find_card("rtx3090"))], print)

    def test_too_little_memory_is_refused(self, plan_of) -> None:
        tiny = EngineGroup(1, cpu_card(1 << 30, 2), "small")

        with pytest.raises(UsageError, match="does not fit"):
            Forecaster(plan_of(), []).usable([tiny], print)

    def test_what_fits_is_not_refused(self, plan_of) -> None:
        groups = [CPU, EngineGroup(1, find_card("rtx3060"))]

        assert Forecaster(plan_of(), []).usable(groups, print) == groups

    def test_a_card_that_cannot_hold_the_job_is_left_out_with_the_reason(self, plan_of) -> None:
        tiny, fitting = (
            EngineGroup(1, cpu_card(1 << 30, 2), "small"),
            EngineGroup(2, find_card("rtx3060")),
        )
        said: list[str] = []

        assert Forecaster(plan_of(), []).usable([tiny, fitting], said.append, context=64) == [
            fitting
        ]
        assert len(said) == 1
        assert "does not fit" in said[0]

    def test_when_no_card_can_hold_it_the_job_is_refused(self, plan_of) -> None:
        tiny = EngineGroup(1, cpu_card(1 << 30, 2), "small")

        with pytest.raises(UsageError, match="does not fit"):
            Forecaster(plan_of(), []).usable([tiny], print, context=64)


class TestCrews:
    def test_a_simulated_job_needs_no_card(self) -> None:
        simulated = job(engine={"kind": "simulated"}, resources={"workers": 3})

        assert local_groups(simulated, 8, spread_of(simulated, None)) == [EngineGroup(3, None)]

    def test_there_are_no_more_engines_than_units(self) -> None:
        simulated = job(engine={"kind": "simulated"}, resources={"workers": 3})

        assert local_groups(simulated, 2, spread_of(simulated, None)) == [EngineGroup(2, None)]

    def test_cards_to_ask_about_are_written_as_a_list(self) -> None:
        groups = asked_groups(job(), "4x rtx3090, 2x rtx4090", spread_of(job(), None))

        assert [(c.number, c.name) for c in groups] == [(4, "rtx3090"), (2, "rtx4090")]

    def test_those_of_a_kind_are_in_one_machine_where_an_engine_takes_several(self) -> None:
        asked, said = job(engine={"tensor_parallel_size": 2}), []
        groups = asked_groups(asked, "5x rtx3060", spread_of(asked, None), said.append)

        assert [(c.number, c.name, c.all_cards) for c in groups] == [(2, "2x rtx3060", 4)]
        assert said == ["1x RTX 3060 left over: an engine takes 2 alike"]

    @pytest.mark.parametrize("gpus", ["rtx3060, rtx3090", "rtx3060, rtx3060", "1x rtx3060"])
    def test_an_engine_over_cards_that_are_not_alike_or_not_there_is_refused(
        self, gpus: str
    ) -> None:
        asked = job(engine={"tensor_parallel_size": 2})
        with pytest.raises(UsageError, match="2 like cards of one machine are asked for"):
            asked_groups(asked, gpus, spread_of(asked, None))


class TestSlotOfTwoCards:
    """27B on two cards of 12 GB, of which one does not hold it."""

    @pytest.fixture
    def of_27b(self, plan_of) -> Forecaster:
        return Forecaster(plan_of(), [], model=MODELS["gemma-3-27b"])

    def test_what_each_card_holds_is_what_counts(self, of_27b: Forecaster) -> None:
        group = EngineGroup(1, find_card("rtx3060"), cards=2)
        [one] = of_27b.forecast([group]).placed

        assert one.choice.arguments["tensor_parallel_size"] == 2
        assert one.choice.arguments["disable_custom_all_reduce"]
        assert one.choice.reasons["tensor_parallel_size"] == "the model does not fit one card"
        assert one.memory is not None
        assert one.memory.weights_bytes == pytest.approx(of_27b._weights.total() / 2, rel=0.001)

    def test_both_cost_power_and_rent(self, of_27b: Forecaster) -> None:
        prices = replace(of_27b, prices=Prices(per_gpu_hour=1.0))
        two = prices.forecast([EngineGroup(1, find_card("rtx3060"), cards=2)])
        hours = two.prediction.seconds / 3600

        assert two.kwh == pytest.approx(2 * 170 * hours / 1000)
        assert two.cost - two.kwh * 0.3 == pytest.approx(2 * hours)

    def test_two_cards_are_faster_than_one_but_not_twice_as_fast(self, of_27b: Forecaster) -> None:
        """They wait for each other."""
        one, two = (
            of_27b.forecast([EngineGroup(1, find_card("rtx4090"), cards=n)]).placed[0].estimate.cost
            for n in (1, 2)
        )
        assert one.seconds / 2 < two.seconds < 0.6 * one.seconds


METERED = {"energy_kwh": 55 * 40 / 3.6e6, "energy_seconds": 55.0, "energy_covered": 1.0}


class TestMeasuredPower:
    def test_energy_is_foretold_from_the_power_that_was_measured(self, plan_of) -> None:
        plan = plan_of()
        record = after_a_run(plan, completion_tokens=40, **METERED)
        made = forecast(plan, records=[record])

        assert record.watts == pytest.approx(40)
        assert made.kwh == pytest.approx(40 * made.prediction.seconds / 3.6e6)

    def test_power_that_the_user_names_goes_before(self, plan_of) -> None:
        plan = plan_of()
        record = after_a_run(plan, completion_tokens=40, **METERED)
        made = Forecaster(plan, [record], Prices(watts=70)).forecast([CPU])

        assert made.kwh == pytest.approx(70 * made.prediction.seconds / 3.6e6)

    def test_without_a_meter_nothing_is_learned_of_power(self, plan_of) -> None:
        assert after_a_run(plan_of(), completion_tokens=40).watts is None

    def test_nothing_is_learned_from_a_run_that_waited_for_its_cards(self, plan_of) -> None:
        plan = plan_of()
        after_a_run(plan, completion_tokens=40)
        after_a_run(plan, completion_tokens=40, waited_seconds=600.0)

        assert len(load_profile()) == 1


class TestHours:
    NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)

    def made(self, plan_of: Any, **resources: Any) -> tuple[Any, Forecast]:
        plan = plan_of(resources=resources)
        record = after_a_run(plan, completion_tokens=40, seconds=3600.0)  # and 20 s to load
        return plan.job, forecast(plan, records=[record])

    def test_a_job_is_done_in_its_hours(self, plan_of) -> None:
        asked, made = self.made(plan_of, hours="20:00-21:00", timezone="UTC")
        done = done_at(asked, made, self.NOON)

        assert done is not None
        assert done.date() == date(2026, 6, 2)
        assert done.hour == 20
        assert done.minute < 2

    def test_without_hours_it_goes_on_until_it_is_done(self, plan_of) -> None:
        asked, made = self.made(plan_of)

        assert done_at(asked, made, self.NOON) == self.NOON + timedelta(
            seconds=made.prediction.seconds
        )

    def test_a_deadline_is_missed_where_the_hours_come_too_late(self, plan_of) -> None:
        hours = {"hours": "20:00-21:00", "timezone": "UTC"}
        late, made = self.made(plan_of, deadline="12h", **hours)
        early, _ = self.made(plan_of, deadline="2d", **hours)

        assert (seconds_to_spare(late, made, self.NOON) or 0) < 0
        assert (seconds_to_spare(early, made, self.NOON) or 0) > 0

    def test_hours_that_are_too_short_miss_every_deadline(self, plan_of) -> None:
        asked, made = self.made(plan_of, hours="20:00-20:01", timezone="UTC", deadline="90d")
        made = replace(made, prediction=replace(made.prediction, ready_seconds=90.0))

        assert seconds_to_spare(asked, made, self.NOON) == -math.inf
