"""Engine arguments that were too much for one card are not tried on another of its kind."""

from __future__ import annotations

from pipeline.driver.workers.slots.oom_steps import OomSteps
from pipeline.engine.failure.oom_fallback import EngineLimits
from pipeline.errors import Shortage

START = {"max_num_seqs": 256, "max_num_batched_tokens": 2048}
OOM = Shortage()


def oom_steps() -> OomSteps:
    steps = OomSteps()
    for card in ("x", "y"):
        steps.learn(card, START, EngineLimits())
    return steps


def test_the_next_engine_on_such_a_card_takes_less() -> None:
    made = oom_steps()

    assert made.step_down("x", START, OOM) == "64 requests at once instead of 256"
    assert made.arguments["x"]["max_num_seqs"] == 64
    assert made.arguments["y"] == START


def test_engines_that_fail_at_the_same_time_step_down_once() -> None:
    made = oom_steps()
    made.step_down("x", START, OOM)

    assert made.step_down("x", START, OOM) == "what others of its kind have"
    assert made.arguments["x"]["max_num_seqs"] == 64


def test_there_is_an_end_to_it() -> None:
    made = oom_steps()
    steps = 0
    while made.step_down("x", made.arguments["x"], OOM):
        steps += 1

    assert steps == 5
