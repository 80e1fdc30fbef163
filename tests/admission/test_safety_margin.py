"""How much of the KV cache is kept free for chance."""

from __future__ import annotations

import random

from pipeline.admission.safety_margin import SafetyMargin


def measured(fixed: float, per_token: float, *, batch: int = 16, length: int = 300) -> SafetyMargin:
    """After 200 steps of an engine whose steps take ``fixed`` seconds and so much per token of a
    prompt; requests of 100 tokens that get ``length``."""
    made, dice = SafetyMargin(length), random.Random(0)
    for _ in range(200):
        prefill = dice.choice([0, 0, 0, 100, 400])
        sequences = batch + dice.randrange(-2, 3)
        seconds = fixed + per_token * (prefill + sequences)
        made.stepped(
            seconds * dice.uniform(0.98, 1.02), sequences=sequences, prefill_tokens=prefill
        )
        made.admitted(100)
        made.ended(length)
    return made


def test_before_anything_is_measured_it_is_careful() -> None:
    assert SafetyMargin(200).value > 2


def test_where_recomputing_is_dear_it_stays_careful() -> None:
    """27B on a 3090: a token of a prompt takes a seventeenth of a step."""
    assert measured(0.024, 0.0014).value > 1.5


def test_where_recomputing_is_cheap_the_cache_is_filled() -> None:
    """A small model on a CPU: 150 tokens of a prompt in the time of a step."""
    assert measured(0.042, 0.00028).value < 0


def test_the_more_run_the_less_one_more_is_worth() -> None:
    assert measured(0.042, 0.0014, batch=40).value > measured(0.042, 0.0014, batch=4).value


def test_while_few_run_less_is_kept_free() -> None:
    made = measured(0.024, 0.0014)

    assert made.at(32) == made.at(17) == made.value
    assert made.at(3) < made.at(6) < made.value


def test_before_anything_is_measured_it_is_as_careful_however_few_run() -> None:
    assert SafetyMargin(200).at(1) == SafetyMargin(200).value


def test_recomputation_raises_it() -> None:
    made = SafetyMargin(200)
    before = made.value
    made.recomputed(2_000)

    assert made.value > before


def test_what_was_recomputed_long_ago_makes_it_careful_no_more() -> None:
    made = SafetyMargin(200)
    before = made.value
    made.recomputed(3_000)
    for _ in range(400):
        made.ended(200)

    assert before <= made.value < before + 0.1


def test_what_is_recomputed_later_is_kept_in_mind_for_longer() -> None:
    early, late = SafetyMargin(200), SafetyMargin(200)
    for _ in range(2_000):
        late.ended(200)
    for made in (early, late):
        made.recomputed(3_000)
        for _ in range(200):
            made.ended(200)

    assert late.value > early.value


def test_few_that_run_have_a_margin_that_does_not_change_until_it_is_weighed_anew() -> None:
    made = SafetyMargin(200)
    made.admitted(200)
    made.stepped(1.0, sequences=4, prefill_tokens=200)
    for _ in range(6):
        made.stepped(0.02, sequences=4)
    before = made.at(2)
    for _ in range(8):
        made.stepped(0.02, sequences=64)

    assert made.at(2) == before


def test_calm_work_lowers_it_slowly() -> None:
    made = SafetyMargin(200)
    before = made.value
    made.generated(100_000)

    assert before - 0.5 < made.value < before


def test_it_stays_within_bounds() -> None:
    made = SafetyMargin(200)
    made.recomputed(10**9)
    assert made.value <= 4

    made.generated(10**12)
    assert made.value >= -1


def test_where_much_may_be_recomputed_recomputing_does_not_alarm() -> None:
    """The share that is worth it is no reason to become more careful."""
    cheap = measured(0.042, 0.00028)
    before = cheap.value
    cheap.generated(1_000)
    cheap.recomputed(300)

    assert cheap.value <= before + 0.01


def test_steps_without_a_sense_are_passed_over() -> None:
    made = SafetyMargin(200)
    for _ in range(100):
        made.stepped(0.0, sequences=0)

    assert made.value > 2
