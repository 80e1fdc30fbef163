"""Questions about one text, answered at once in the shape of OpenAI's decisions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline import JobFailed, UsageError, decide
from pipeline.driver.trial.client import WarmEngine
from tests.support.samples import write_model

SIMULATED = {"kind": "simulated"}
OURS = {
    "mood": {"ask": "Mood:", "choices": ["good", "bad"]},
    "urgent": {"predicate": "Is it urgent?"},
    "quality": {"ask": "Quality:", "score": ["poor", "fair", "fine"]},
}
THEIRS: list[dict[str, Any]] = [
    {
        "type": "choice",
        "name": "the mood",
        "instructions": "Mood:",
        "choices": [{"value": "good", "description": "glad"}, {"value": "bad"}],
    },
    {"type": "predicate", "instructions": "Is it urgent?"},
    {
        "type": "score",
        "name": "quality",
        "instructions": "Quality:",
        "levels": [{"label": "poor"}, {"label": "fair"}, {"label": "fine"}],
    },
]


@pytest.fixture
def base(tmp_path: Any) -> str:
    """The folder of a base model."""
    return str(write_model(tmp_path / "base"))


def test_every_kind_of_answer_has_its_members(base: str) -> None:
    mood, urgent, quality = decide(base, "all is well", OURS, engine=SIMULATED)["answers"]

    assert (mood["type"], mood["name"]) == ("choice", "mood")
    chances = {one["value"]: one["probability"] for one in mood["probabilities"]}
    assert sum(chances.values()) == pytest.approx(1)
    assert mood["confidence"] == max(chances.values()) == chances[mood["choice"]]
    assert urgent.keys() == {"type", "name", "probability"}
    assert [(one["value"], one["label"]) for one in quality["probabilities"]] == [
        (0, "poor"), (1, "fair"), (2, "fine"),
    ]  # fmt: skip
    levels = [one["value"] * one["probability"] for one in quality["probabilities"]]
    assert quality["score"] == pytest.approx(sum(levels))


def test_the_usage_counts_the_text_once(base: str) -> None:
    one = decide(base, "a long text", {"mood": OURS["mood"]}, engine=SIMULATED)["usage"]
    all_three = decide(base, "a long text", OURS, engine=SIMULATED)["usage"]

    assert all_three["total_tokens"] == all_three["input_tokens"] + all_three["output_tokens"]
    assert all_three["input_tokens"] < 3 * one["input_tokens"] + len("Is it urgent? Yes or no:")


def test_questions_may_be_written_as_openai_has_them(base: str) -> None:
    mood, urgent, quality = decide(base, "all is well", THEIRS, engine=SIMULATED)["answers"]

    assert (mood["name"], urgent["name"], quality["name"]) == ("the mood", None, "quality")
    assert mood["choice"] in ("good", "bad")


def test_messages_need_a_template_which_may_be_named(base: str) -> None:
    said = [{"role": "user", "content": "all is well"}]

    with pytest.raises(JobFailed, match="no chat template"):
        decide(base, said, OURS, engine=SIMULATED)
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    assert decide(base, said, OURS, engine=SIMULATED, chat_template=template)["answers"]


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"type": "predicate"}, "question 1 has no text"),
        ({"type": "essay", "instructions": "Why?"}, "'essay'.*choice, predicate or score"),
        ({"type": "choice", "instructions": "Q", "choices": ["a", "b"]}, "choices is a list of"),
        ({"type": "score", "instructions": "Q"}, "levels is a list of"),
    ],
)
def test_a_question_that_is_not_whole_is_refused(
    base: str, question: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        decide(base, "x", [question], engine=SIMULATED)
    told = " ".join([caught.value.message, *caught.value.hints])
    assert re.search(said, told)


# -- with the real engine


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmEngine]:
    engine = WarmEngine(tmp_path_factory.mktemp("w") / "w")
    yield engine
    engine.end()


@pytest.mark.engine
def test_a_real_model_answers_each_question_as_if_it_were_the_only_one(warm: WarmEngine) -> None:
    """Also where one choice begins another, and where there are as many as there may be."""
    many = ["No", "No way", "Nowhere", *(f"option {n}" for n in range(252))]
    questions: dict[str, dict[str, Any]] = {
        "sentiment": {"ask": "Sentiment:", "choices": ["negative", "positive"]},
        "many": {"ask": "Answer:", "choices": many},
        "thanks": {"predicate": "Does the writer say thanks?"},
    }
    text = "Tweet: @united thank you, the crew was wonderful and we landed early!"
    together = decide("gemma-3-270m", text, questions, warm=warm)["answers"]
    for name, answer in zip(questions, together, strict=True):
        [alone] = decide("gemma-3-270m", text, {name: questions[name]}, warm=warm)["answers"]
        assert _chances(alone) == pytest.approx(_chances(answer), abs=0.02)
    assert together[0]["choice"] == "positive"
    assert sum(_chances(together[1])) == pytest.approx(1)


def _chances(answer: dict[str, Any]) -> list[float]:
    each = answer.get("probabilities", [answer])
    return [one["probability"] for one in each]
