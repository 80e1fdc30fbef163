"""Equal keys must mean equal answers; what changes no answer should change no key."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.job.sampling import Sampling
from pipeline.model.tokenizer import Tokenizer
from pipeline.prompt.answer_key import KEY_BYTES, AnswerKeys
from pipeline.prompt.answers import Answers
from pipeline.prompt.join import Prompt
from tests.support.samples import job

IDS = [2, 3, 4, 300, 262_143]
CHOICES = {"choices": ["yes", "no"]}
SCHEMA = {"json_schema": {"type": "object", "properties": {"a": {}, "b": {}}}}
TURNED = {"json_schema": {"type": "object", "properties": {"b": {}, "a": {}}}}


def key(
    ids: list[int] | None = None,
    *,
    tail: str = "A:",
    score_from: int | None = None,
    room: int = 1000,
    model_hash: str = "m",
    changes: dict[str, Any] | None = None,
    **sampling: Any,
) -> bytes | None:
    prompt = Prompt(IDS if ids is None else ids, tail, Sampling(**sampling), score_from)
    return AnswerKeys(job(**changes or {}), model_hash).key(prompt, room)


def test_a_key_repeats_and_has_16_bytes() -> None:
    one = key()
    assert one is not None
    assert len(one) == KEY_BYTES
    assert key() == one


@pytest.mark.parametrize(
    "other",
    [
        {"ids": IDS[:-1]},
        {"ids": [*IDS, 0]},
        {"ids": [3, 2, *IDS[2:]]},
        {"model_hash": "n"},
        {"max_tokens": 17},
        {"min_tokens": 3},
        {"stop": "x"},
        {"stop_token_ids": (5,)},
        {"ignore_eos": True},
        {"repetition_penalty": 1.1},
        {"presence_penalty": 0.5},
        {"bad_words": ("x",)},
        {"skip_special_tokens": False},
        {"temperature": 0.5, "seed": 1},
        {"changes": {"label": CHOICES}},
        {"changes": {"label": SCHEMA}},
        {"changes": {"label": {"regex": "a"}}},
        {"changes": {"prompt": None, "messages": [{"role": "user", "content": "x"}]}},
        {"changes": {"engine": {"kind": "simulated"}}},
        {"score_from": 1, "changes": {"score": {}}},
    ],
)
def test_what_changes_the_answer_changes_the_key(other: dict[str, Any]) -> None:
    assert key(**other) is not None
    assert key(**other) != key()


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"top_p": 0.5, "top_k": 3, "min_p": 0.1},
        {"tail": "other"},
        {"room": 256},
        {"changes": {"instructions": "as token ids they are in the prompt"}},
        {"changes": {"engine": {"max_num_seqs": 3, "kv_cache_dtype": "fp8"}}},
        {"changes": {"output": {"path": "elsewhere", "keep": []}}},
        {"changes": {"name": "other"}},
    ],
)
def test_what_changes_no_answer_changes_no_key(other: dict[str, Any]) -> None:
    assert key(**other) == key()


def test_one_stop_word_is_a_list_of_one() -> None:
    assert key(stop="x") == key(stop=("x",))


def test_room_for_fewer_tokens_is_like_asking_for_fewer() -> None:
    assert key(room=10) == key(max_tokens=10) != key(room=11)


class TestChance:
    def test_without_a_seed_there_is_no_key(self) -> None:
        assert key(temperature=0.5) is None

    def test_a_seed_of_the_rows_own_is_no_others(self) -> None:
        sampling = Sampling(temperature=0.5, seed=1)
        assert AnswerKeys(job(), "m").key(Prompt(IDS, "", sampling, own_seed=True), 100) is None

    def test_with_a_seed_every_sampling_parameter_counts(self) -> None:
        seeded = [
            key(temperature=0.5, seed=1),
            key(temperature=0.5, seed=2),
            key(temperature=0.6, seed=1),
            key(temperature=0.5, seed=1, top_p=0.9),
            key(temperature=0.5, seed=1, top_k=5),
            key(temperature=0.5, seed=1, min_p=0.1),
        ]
        assert None not in seeded
        assert len(set(seeded)) == len(seeded)

    def test_rows_with_sampling_of_their_own_do_not_mix(self) -> None:
        keys = AnswerKeys(job(), "m")
        rows = [Prompt(IDS, "", Sampling(temperature=t, seed=3)) for t in (0.0, 0.5, 0.0, 0.5)]
        made = [keys.key(row, 100) for row in rows]

        assert made[0] == made[2] != made[1] == made[3]


class TestChoices:
    def test_the_limits_of_a_text_do_not_count(self) -> None:
        label = {"label": CHOICES}
        same = key(changes=label)

        assert key(changes=label, max_tokens=1, stop="x") == same
        assert key(changes=label, temperature=0.5, seed=1) != same

    def test_a_draw_without_a_seed_is_no_others(self) -> None:
        assert key(changes={"label": CHOICES}, temperature=0.5) is None

    def test_the_text_that_they_join_counts(self) -> None:
        label = {"label": CHOICES}
        assert key(changes=label, tail="a") != key(changes=label, tail="b")
        assert key(changes=label, tail="\ud83d") is not None

    def test_their_order_counts(self) -> None:
        turned = {"label": {"choices": ["no", "yes"]}}
        assert key(changes=turned) != key(changes={"label": CHOICES})

    def test_the_gold_column_does_not(self) -> None:
        gold = {"label": CHOICES | {"gold": "truth"}}
        assert key(changes=gold) == key(changes={"label": CHOICES})


def test_the_order_of_a_schemas_properties_counts() -> None:
    assert key(changes={"label": SCHEMA}) != key(changes={"label": TURNED})


def test_scores_depend_on_what_is_scored_and_how_many_are_listed() -> None:
    keys = {
        key(score_from=1, changes={"score": {}}),
        key(score_from=2, changes={"score": {}}),
        key(score_from=1, changes={"score": {"top_k": 5}}),
    }
    assert len(keys) == 3
    assert key(score_from=1, changes={"score": {"per_token": True}}) in keys


class TestOfAnswers:
    def answers(self, tokenizer: Tokenizer, max_model_len: int) -> Answers:
        return Answers(job(), tokenizer, max_model_len=max_model_len, model_hash="m")

    def test_a_context_that_binds_counts(self, tokenizer: Tokenizer) -> None:
        prompt = Prompt(IDS, "", Sampling())
        made = [self.answers(tokenizer, n).key(prompt) for n in (10, 1000, 2000)]

        assert made[0] != made[1] == made[2]

    def test_a_prompt_that_is_too_long_has_none(self, tokenizer: Tokenizer) -> None:
        assert self.answers(tokenizer, len(IDS)).key(Prompt(IDS, "", Sampling())) is None
