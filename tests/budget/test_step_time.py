"""Step times: the roofline's shape, the calibration's arithmetic, its file, and the fit."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from pipeline.budget.cards.lookup import find_card
from pipeline.budget.step_time import CalibratedTime, Knots, RooflineTime, StepWork, attended
from pipeline.budget.weights import weight_bytes
from pipeline.errors import UsageError
from pipeline.model.catalogue import MODELS
from pipeline.simulate.vllm_model.step_fit import Timing, fit_steps
from tests.budget.least_time import decode_step_seconds

GEOMETRY = MODELS["gemma-3-27b"].geometry
WEIGHTS = weight_bytes(GEOMETRY, "int4").text_bytes
CARD = find_card("rtx3090")
ROOFLINE = RooflineTime(GEOMETRY, WEIGHTS, CARD)


def decode(batch: int, context: int, steps: int = 1) -> StepWork:
    window = min(context, GEOMETRY.sliding_window)
    return StepWork(steps * batch, steps * batch * context, steps * batch * window, steps=steps)


def test_an_ideal_card_needs_what_the_roofline_says() -> None:
    ideal = RooflineTime(
        GEOMETRY,
        WEIGHTS,
        CARD,
        bandwidth_reached=1,
        flops_reached=1,
        step_seconds=0,
        sequence_seconds=0,
    )
    for batch, context in ((1, 100), (8, 3000), (200, 500)):
        least = decode_step_seconds(GEOMETRY, WEIGHTS, CARD, [context] * batch)
        assert ideal.seconds(decode(batch, context)) == pytest.approx(least)


def test_a_real_card_takes_longer_than_its_data_sheet_says_but_not_three_times() -> None:
    for batch in (1, 8, 64):
        least = decode_step_seconds(GEOMETRY, WEIGHTS, CARD, [1000] * batch)
        assert least < ROOFLINE.seconds(decode(batch, 1000)) < 3 * least


def test_prompts_ride_along_while_reading_the_weights_takes_longer() -> None:
    alone = ROOFLINE.seconds(decode(4, 500))
    with_prompt = ROOFLINE.seconds(decode(4, 500) + StepWork(prefill_tokens=4, steps=0))
    assert with_prompt == pytest.approx(alone)


def test_a_long_prompt_costs_arithmetic() -> None:
    chunk = StepWork(prefill_tokens=2048, prefill_context=attended(0, 2048), prefills=1)
    assert ROOFLINE.seconds(chunk) > 10 * ROOFLINE.seconds(decode(1, 100))


def test_weights_in_the_machines_memory_are_read_from_there_in_every_step() -> None:
    away = RooflineTime(GEOMETRY, WEIGHTS, CARD, offloaded_bytes=6 * 10**9)
    slower = away.seconds(decode(8, 700, steps=2)) - ROOFLINE.seconds(decode(8, 700, steps=2))
    assert slower == pytest.approx(2 * (6 / 12 - 6e9 / CARD.bandwidth / 0.78), rel=0.01)

    everything = RooflineTime(GEOMETRY, WEIGHTS, CARD, offloaded_bytes=10**12)
    assert everything.seconds(decode(8, 700)) < 1.1 * WEIGHTS / 12e9


@pytest.mark.parametrize("time", [ROOFLINE, CalibratedTime({"step": 0.01, "samples>0": 1e-3})])
def test_equal_steps_may_be_summed(time: RooflineTime | CalibratedTime) -> None:
    assert time.seconds(decode(8, 700, steps=20)) == pytest.approx(
        20 * time.seconds(decode(8, 700))
    )


def test_attention_of_a_prompt_is_counted_token_by_token() -> None:
    for start, tokens, window in ((0, 10, None), (5, 7, None), (0, 10, 4), (2, 9, 6), (8, 3, 4)):
        each = (i + 1 for i in range(start, start + tokens))
        assert attended(start, tokens, window) == sum(min(i, window or i) for i in each)


def test_ramps_add_up_to_the_count() -> None:
    knots = Knots(tokens=(0, 4, 16), samples=(0, 8))
    named = dict(
        zip(knots.names, knots.features(StepWork(5, prefill_tokens=6, prefills=1)), strict=True)
    )
    assert [named[f"tokens>{k}"] for k in (0, 4, 16)] == [4, 7, 0]
    assert [named[f"samples>{k}"] for k in (0, 8)] == [6, 0]


def _made(time: CalibratedTime, noise: float) -> list[Timing]:
    dice = random.Random(0)
    works = [decode(b, c) for b in (1, 2, 4, 8, 16, 32, 64, 128, 200) for c in (20, 600, 2000)]
    works += [
        StepWork(d, d * 100, d * 100, n * p, n * attended(0, p), n * attended(0, p, 1024), n, n)
        for d in (0, 8)
        for n, p in ((1, 16), (1, 300), (1, 2000), (16, 32), (64, 8), (4, 512))
    ]
    return [Timing("", (w,), time.seconds(w) * (1 + dice.uniform(-noise, noise))) for w in works]


TRUE = CalibratedTime(
    {"step": 0.04, "context": 1e-6, "added": 2e-4}
    | {f"tokens>{k}": 3e-4 for k in Knots().tokens}
    | {"samples>0": 2e-4, "samples>8": 2e-4, "samples>32": 5e-4, "samples>128": 4e-4}
)


def test_the_fit_finds_an_engine_again() -> None:
    fit = fit_steps(_made(TRUE, 0.0))
    assert fit.largest_error < 0.01
    unseen = StepWork(50, 50 * 900, 50 * 900, 700, attended(0, 700), attended(0, 700), 2, 2)
    assert fit.time.seconds(unseen) == pytest.approx(TRUE.seconds(unseen), rel=0.03)


def test_noise_of_a_twentieth_leaves_a_good_fit() -> None:
    fit = fit_steps(_made(TRUE, 0.05))
    assert fit.median_error < 0.05
    unseen = StepWork(50, 50 * 900, 50 * 900, 700, attended(0, 700), attended(0, 700), 2, 2)
    assert fit.time.seconds(unseen) == pytest.approx(TRUE.seconds(unseen), rel=0.08)


def test_no_cost_is_negative_though_the_measurements_fall() -> None:
    measured = [Timing("", (decode(b, 16),), 0.1 / b) for b in (1, 2, 4, 8)]
    assert all(cost >= 0 for cost in fit_steps(measured).time.costs.values())


def test_steps_beyond_what_was_measured_go_on_costing_more() -> None:
    small = [m for m in _made(TRUE, 0.0) if m.works[0].sequences <= 16 and not m.works[0].prefills]
    time = fit_steps(small).time
    assert time.seconds(decode(200, 20)) > 1.5 * time.seconds(decode(16, 20))


def test_nothing_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing measured"):
        fit_steps([])


def test_a_calibration_survives_its_file() -> None:
    again = CalibratedTime.from_json(json.loads(json.dumps(TRUE.as_json())), "c.json")
    assert again == TRUE


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (None, "is no calibration"),
        ([], "is no calibration"),
        ({"rackmill_calibration": 9}, "is of version 9"),
        ({"knots": {"tokens": [0]}}, "lacks 'samples'"),
        ({"knots": {"tokens": [5, 1], "samples": [0]}}, "knots that do not rise"),
        ({"seconds_for": {"step": -1}}, "negative or no number"),
        ({"seconds_for": {"step": "fast"}}, "cannot be read"),
        ({"seconds_for": {"stepp": 1}}, "unknown cost 'stepp'"),
        ({"seconds_for": {}}, "take no time"),
        ({"seconds_for": [1]}, "cannot be read"),
    ],
)
def test_a_damaged_file_is_refused_in_words(change: Any, says: str) -> None:
    content = TRUE.as_json() | change if isinstance(change, dict) else change
    with pytest.raises(UsageError) as error:
        CalibratedTime.from_json(content, "c.json")
    assert says in error.value.message
    assert "c.json" in error.value.message
    assert "rackmill calibrate" in error.value.hints[-1]
