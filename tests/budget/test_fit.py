"""Verdicts: what fits which card, how many requests at once, and what would."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.budget.cards.lookup import CARDS, GIB, cpu_card
from pipeline.budget.fit.advice import refusal
from pipeline.budget.fit.assess import Fit
from pipeline.budget.fit.fit import fit
from pipeline.budget.model_spec import FitOptions, ModelSpec
from pipeline.budget.weights import weight_bytes
from pipeline.model.catalogue import MODELS, PRECISIONS, Precision
from tests.support.samples import quick


def ask(size: str, card: str, precision: Precision = "int4", **options: Any) -> Fit:
    subject = ModelSpec.of(MODELS[f"gemma-3-{size}"], precision)
    return fit(subject, CARDS[card], FitOptions(**options))


class TestTheAnnouncement:
    """Its promises, and what comes of them under vLLM."""

    def test_27b_fits_a_24_gb_card_with_about_eight_requests_of_1k(self) -> None:
        answer = ask("27b", "rtx3090")
        assert answer.fits
        assert 8 <= answer.max_requests[1024] <= 10
        assert answer.max_requests[32_768] == 1
        assert "KV cache is the limit" in answer.reason

    def test_12b_does_not_fit_a_laptop_with_8_gb(self) -> None:
        answer = ask("12b", "rtx4060-laptop")
        assert not answer.fits
        assert "weights 8.1 GB (announced: 6.6 GB" in answer.reason
        assert any("4B int4" in line for line in answer.advice)
        assert any("12 GB" in line for line in answer.advice)

    def test_12b_fits_12_gb(self) -> None:
        assert ask("12b", "rtx3060").fits

    def test_27b_in_bf16_wants_an_h100(self) -> None:
        assert not ask("27b", "rtx5090", "bf16").fits
        assert ask("27b", "h100", "bf16").fits


class TestTheNearestThing:
    def test_fp8_halves_the_cache_where_the_card_has_it(self) -> None:
        bf16, fp8 = (ask("27b", "rtx4090", kv_dtype=d) for d in ("bf16", "fp8"))
        assert fp8.num_gpu_blocks > 1.9 * bf16.num_gpu_blocks
        assert any("fp8" in line for line in bf16.advice)

    def test_text_only_is_named_where_the_tower_is_what_is_too_much(self) -> None:
        seen = ask("4b", "rtx3060ti", "int8", vision=True, context=16_384)
        assert not seen.fits
        assert seen.advice[0].startswith("text only")

    def test_a_shorter_request_is_named_where_the_cache_is_too_small(self) -> None:
        answer = ask("27b", "rtx3090", context=65_536)
        assert "one request of 64k tokens needs" in answer.reason
        assert any(line.startswith("requests of up to") for line in answer.advice)

    def test_two_cards_are_named_where_they_hold_it(self) -> None:
        assert any("two such cards" in line for line in ask("27b", "rtx4090", "int8").advice)

    def test_nobody_puts_two_cards_into_a_laptop(self) -> None:
        assert not any("two such" in line for line in ask("12b", "rtx4060-laptop").advice)

    @pytest.mark.parametrize(
        "given",
        [
            {"attention_backend": "FLASH_ATTN", "kv_cache_dtype": "fp8"},
            {"gpu_memory_utilization": 0.3},
            {"tensor_parallel_size": 3},
        ],
    )
    def test_what_a_job_gave_that_stands_against_it_is_named(self, given: dict[str, Any]) -> None:
        answer = ask("12b", "rtx4090", context=256, given=given)

        assert not answer.fits
        assert answer.advice[0].startswith(f"engine.{next(iter(given))} left out: ")

    def test_advice_for_several_cards_is_of_as_many_others(self) -> None:
        old, small = ask("12b", "rtx2080ti", cards=2), ask("27b", "rtx3050", cards=2)

        assert old.headline.endswith("cannot run on 2× RTX 2080 Ti (11 GB) together")
        assert old.advice == ("12B int4 on 2x RTX 3050",)
        assert "27B int4 on 2x RTX 3060" in small.advice

    def test_a_number_of_cards_that_cannot_share_it_is_named(self) -> None:
        answer = ask("12b", "rtx3090", cards=3)

        assert answer.headline.endswith("cannot run on 3× RTX 3090 (24 GB) together")
        assert any(line.startswith("two such cards in one machine") for line in answer.advice)

    def test_two_cards_share_weights_and_heads(self) -> None:
        one, two = (ask("27b", "rtx4090", cards=n) for n in (1, 2))
        norms = one.model.weights.norm_bytes  # each card has all of them
        assert two.weights_bytes == (one.weights_bytes - norms) // 2 + norms
        assert two.max_requests[4096] > 3 * one.max_requests[4096]


class TestWhatCannotBe:
    def test_turing_has_no_bf16(self) -> None:
        answer = ask("1b", "rtx2080ti")
        assert not answer.fits
        assert "overflows in fp16" in answer.reason

    def test_ampere_has_no_fp8(self) -> None:
        answer = ask("1b", "rtx3090", kv_dtype="fp8")
        assert "Ada" in answer.reason
        assert answer.advice[0].startswith("KV cache in bf16")

    def test_a_context_is_the_models(self) -> None:
        answer = ask("1b", "rtx4090", context=40_000)
        assert answer.reason == "1B knows 32k tokens of context, not 40 000"

    def test_a_max_model_len_is_too(self) -> None:
        options = FitOptions.from_arguments({"max_model_len": 40_000}, 100)
        subject = ModelSpec.of(MODELS["gemma-3-1b"], "int4")
        assert "not 40 000" in fit(subject, CARDS["rtx4090"], options).reason

    def test_no_cpu_has_a_kernel_for_int8(self) -> None:
        subject = ModelSpec.of(MODELS["gemma-3-270m"], "int8")
        assert "int8" in fit(subject, cpu_card(16 * GIB, 2)).reason


class TestAProcessorThatComputesInBf16:
    def test_fit_counts_the_unpacked_weights(self) -> None:
        subject = ModelSpec.of(MODELS["gemma-3-4b"], "int4")
        answer = fit(subject, cpu_card(64 * GIB, 8, native_bf16=True))
        unpacked = weight_bytes(subject.geometry, "bf16")
        assert answer.weights_bytes == unpacked.text_bytes

    def test_int4_is_named_where_only_that_fits(self) -> None:
        subject = ModelSpec.of(MODELS["gemma-3-27b"], "int4")
        asked = FitOptions.from_arguments({"cpu_compute": "bf16"}, 1000)
        answer = fit(subject, cpu_card(32 * GIB, 8, native_bf16=True), asked)
        assert not answer.fits
        assert any("cpu_compute: int4" in line for line in answer.advice)


class TestARefusal:
    def test_names_model_and_card_then_why_then_what_would(self) -> None:
        first, why, near = str(refusal(ask("12b", "rtx4060-laptop"))).splitlines()
        assert first == "gemma-3-12b int4 does not fit RTX 4060 Laptop (8 GB)"
        assert "overhead > 7.1 GB usable" in why
        assert near.strip().startswith("would fit: 4B int4")

    def test_does_not_come_where_it_fits(self) -> None:
        assert refusal(ask("4b", "rtx4060-laptop")) is None


class TestAJobsArguments:
    def test_a_cache_that_is_given_is_not_calculated(self) -> None:
        options = FitOptions.from_arguments({"kv_cache_memory_bytes": GIB}, 1000)
        answer = fit(ModelSpec.of(MODELS["gemma-3-27b"], "int4"), CARDS["rtx3090"], options)
        assert answer.kv_bytes == GIB

    def test_weights_kept_in_the_machines_memory_do_not_count(self) -> None:
        options = FitOptions.from_arguments({"cpu_offload_gb": 4}, 1000)
        subject = ModelSpec.of(MODELS["gemma-3-12b"], "int4")
        assert fit(subject, CARDS["rtx4060-laptop"], options).fits

    def test_a_number_of_blocks_that_is_given_holds(self) -> None:
        options = FitOptions.from_arguments({"num_gpu_blocks_override": 500}, 1000)
        answer = fit(ModelSpec.of(MODELS["gemma-3-27b"], "int4"), CARDS["rtx3090"], options)
        assert answer.num_gpu_blocks == 500

    def test_what_an_engine_reported_replaces_the_model_of_overhead(self) -> None:
        assert ask("27b", "rtx3090", overhead_correction=2 * GIB).overhead_bytes == 2 * GIB


def test_the_documented_keys_are_there() -> None:
    assert set(ask("27b", "rtx3090").as_json()) == {
        *("model", "precision", "card", "context", "kv_dtype", "announced_gb"),
        *("weights_bytes", "overhead_bytes", "kv_bytes", "block_size", "num_blocks"),
        *("blocks_per_request", "max_requests", "roofline_tokens_per_second"),
        *("fits", "reason", "advice"),
    }


_ALL = st.tuples(
    st.sampled_from(sorted(MODELS)), st.sampled_from(PRECISIONS), st.sampled_from(sorted(CARDS))
)


@quick
@given(_ALL, st.sampled_from([64, 1024, 20_000]), st.booleans())
def test_what_fits_fits_its_memory_and_what_does_not_says_why(
    case: tuple[str, Precision, str], context: int, vision: bool
) -> None:
    model, precision, card = case
    answer = fit(
        ModelSpec.of(MODELS[model], precision), CARDS[card], FitOptions(context, vision=vision)
    )
    assert answer.reason
    if answer.fits:
        used = answer.weights_bytes + answer.overhead_bytes + answer.kv_bytes
        assert used <= answer.usable_bytes < CARDS[card].vram_bytes
        held = answer.max_requests[context] - 1
        charge = answer.blocks_per_request[context]
        assert charge + held * answer.layout.blocks(context) < answer.num_gpu_blocks
        assert answer.roofline_tokens_per_second > 0
    else:
        assert set(answer.advice) or not CARDS[card].has_bf16


@quick
@given(_ALL, st.sampled_from([None, 64, 1024, 20_000]))
def test_the_settings_of_an_answer_are_chosen_by_its_own_number(
    case: tuple[str, Precision, str], context: int | None
) -> None:
    model, precision, card = case
    answer = fit(ModelSpec.of(MODELS[model], precision), CARDS[card], FitOptions(context))
    if answer.fits:
        held = answer.max_requests[answer.context]
        assert answer.settings.requests == held
        reason = answer.settings.reasons["max_num_seqs"]
        assert reason.startswith(f"{held} requests of {answer.context} tokens")


@quick
@given(_ALL)
def test_longer_requests_never_come_in_larger_numbers(case: tuple[str, Precision, str]) -> None:
    model, precision, card = case
    held = list(fit(ModelSpec.of(MODELS[model], precision), CARDS[card]).max_requests.values())
    assert held == sorted(held, reverse=True)
