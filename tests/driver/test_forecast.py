"""What `plan` foretells and `run` starts from: fit, settings, time, energy, money and levers."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from pipeline.budget.cards.lookup import find_card
from pipeline.budget.roofline import decode_tokens_per_second
from pipeline.cli.try_out.plan.forecast import time_in_words
from pipeline.cluster.engine_groups import EngineGroup
from pipeline.driver.forecast import forecast as module
from pipeline.driver.forecast.forecast import Forecaster
from pipeline.driver.forecast.types import Forecast, Prices, done_at, seconds_to_spare
from pipeline.report.profile import load_profile
from tests.driver.forecast_side import CPU, after_a_run, forecast


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

    def test_a_run_on_a_busy_machine_is_forgotten_with_the_next(self, plan_of) -> None:
        plan = plan_of()
        busy = after_a_run(plan, completion_tokens=40, seconds=220)
        calm = after_a_run(plan, completion_tokens=40, seconds=30)

        made = forecast(plan, records=[busy, calm])
        assert made.prediction.seconds == pytest.approx(55, rel=0.01)
        assert time_in_words(made).endswith(" as earlier runs differed")
        again = forecast(plan, records=[busy, *[calm] * 5])
        assert time_in_words(again) == "about 55 s"

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
