"""Which cards and engines a job gets, and which are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline import UsageError
from pipeline.budget.cards.lookup import cpu_card, find_card
from pipeline.budget.model_spec import ModelSpec
from pipeline.cluster.card_slots import spread_of
from pipeline.cluster.engine_groups import EngineGroup, asked_groups, local_groups
from pipeline.driver.forecast.forecast import Forecaster
from pipeline.driver.forecast.types import Prices
from pipeline.model.catalogue import MODELS
from tests.driver.forecast_side import CPU
from tests.support.samples import job


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

    def test_cards_that_are_named_apart_are_of_several_machines(self) -> None:
        model = ModelSpec.of(MODELS["gemma-3-27b"], "int4")
        two = asked_groups(job(), "2x rtx3060, 2x rtx3060", spread_of(job(), model))
        alone = asked_groups(job(), "rtx3060, rtx3060", spread_of(job(), model))

        assert [(c.number, c.name) for c in two] == [(2, "2x rtx3060")]
        assert [(c.number, c.name) for c in alone] == [(2, "rtx3060")]

    def test_laptops_are_a_machine_each(self) -> None:
        model = ModelSpec.of(MODELS["gemma-3-12b"], "int4")
        groups = asked_groups(job(), "2x rtx4060-laptop", spread_of(job(), model))

        assert [(c.number, c.name) for c in groups] == [(2, "rtx4060-laptop")]

    @pytest.mark.parametrize(
        "gpus", ["rtx3060, rtx3090", "rtx3060, rtx3060", "1x rtx3060", "2x rtx4090-laptop"]
    )
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
