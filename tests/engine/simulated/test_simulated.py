"""The simulated engine: a KV budget that holds, and answers of the asked shape."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.budget.kv_layout import KvLayout
from pipeline.engine.protocol import EngineStats
from pipeline.engine.simulated.engine import SimulatedEngine
from pipeline.errors import RowError
from pipeline.job.engine import SimulatedEngineSettings as Settings
from pipeline.job.sampling import Sampling
from pipeline.rows.request import Completion, Request, Structure
from tests.support.samples import GEMMA_270M, quick

LAYOUT = KvLayout(GEMMA_270M, 16, 2048)


def engine(blocks: int = 16_384, output_tokens: int = 16, max_model_len: int = 4096):
    settings = Settings(num_blocks=blocks, output_tokens=output_tokens)
    return SimulatedEngine(settings, LAYOUT, max_model_len=max_model_len)


def request(
    number: int,
    prompt: list[int] | None = None,
    structure: Structure | None = None,
    logprob_ids: tuple[int, ...] = (),
    **sampling: Any,
) -> Request:
    ids = [2, number] if prompt is None else prompt
    return Request(number, ids, Sampling(**sampling), structure, logprob_ids)


def finish(made: SimulatedEngine, requests: list[Request], steps: int = 20_000) -> list[Completion]:
    """All completions, in the order in which they end."""
    for one in requests:
        made.add(one)
    ended: list[Completion] = []
    for _ in range(steps):
        ended += made.step()
        if len(ended) == len(requests):
            return ended
    pytest.fail(f"only {len(ended)} of {len(requests)} requests ended in {steps} steps")


def one(structure: Structure | None = None, seed: int = 0, **sampling: Any) -> Completion:
    [completion] = finish(engine(), [request(1, [2, seed], structure, **sampling)])
    return completion


class TestAnswers:
    def test_the_same_prompt_gets_the_same_answer(self) -> None:
        assert one(seed=5) == one(seed=5)

    def test_other_prompts_get_other_answers(self) -> None:
        assert len({one(seed=seed).text for seed in range(20)}) > 10

    def test_chance_is_another_each_time(self) -> None:
        assert len({one(temperature=1.0).text for _ in range(20)}) > 10

    def test_chance_repeats_with_its_seed(self) -> None:
        def drawn(seed: int) -> Completion:
            asked = Request(1, [2, 3], Sampling(temperature=1.0, seed=seed))
            [completion] = finish(engine(), [asked])
            return completion

        assert drawn(7) == drawn(7)
        assert len({drawn(seed).text for seed in range(20)}) > 10

    def test_an_answer_does_not_depend_on_what_else_runs(self) -> None:
        alone = {seed: one(seed=seed).text for seed in range(8)}
        together = finish(engine(blocks=64), [request(n, [2, n]) for n in range(8)])

        assert {c.request_id: c.text for c in together} == alone

    def test_lengths_lie_around_the_middle_asked_for(self) -> None:
        ended = finish(engine(output_tokens=10), [request(n) for n in range(200)])
        lengths = [c.completion_tokens for c in ended]

        assert (min(lengths), max(lengths)) == (1, 19)
        assert sum(lengths) / len(lengths) == pytest.approx(10, abs=1)

    def test_no_answer_is_longer_than_its_limit(self) -> None:
        ended = finish(engine(), [request(n, max_tokens=4) for n in range(50)])

        assert max(c.completion_tokens for c in ended) == 4
        assert {c.finish_reason for c in ended if c.completion_tokens == 4} == {"length"}

    def test_no_answer_is_shorter_than_asked(self) -> None:
        ended = finish(engine(output_tokens=2), [request(n, min_tokens=9) for n in range(20)])

        assert {c.completion_tokens for c in ended} == {9}

    def test_an_answer_that_may_not_stop_has_its_full_length(self) -> None:
        assert one(max_tokens=40, ignore_eos=True).completion_tokens == 40

    def test_each_token_is_a_word(self) -> None:
        completion = one()

        assert len(completion.text.split()) == completion.completion_tokens

    def test_asked_for_probabilities_it_gives_those_and_one_token(self) -> None:
        [completion] = finish(engine(), [request(1, logprob_ids=(7, 8, 9))])

        assert set(completion.logprobs) == {7, 8, 9}
        assert all(p < 0 for p in completion.logprobs.values())
        assert completion.completion_tokens == 1


SCHEMA = {
    "type": "object",
    "properties": {
        "topic": {"enum": ["food", "travel"]},
        "kind": {"const": "review"},
        "stars": {"type": "integer", "minimum": 1, "maximum": 5},
        "price": {"type": "number", "minimum": 0.5, "maximum": 2.5},
        "good": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 3},
        "author": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "age": {"type": ["integer", "null"]}},
            "required": ["name"],
        },
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
    "required": ["topic", "kind", "stars", "price", "good", "tags", "author", "note"],
    "additionalProperties": False,
}
BOUNDS = st.one_of(st.none(), st.integers(-9, 9))


class TestJson:
    @pytest.mark.parametrize("seed", range(30))
    def test_an_answer_is_valid_under_a_common_schema(self, seed: int) -> None:
        completion = one(Structure(json_schema=json.dumps(SCHEMA)), seed)

        jsonschema.validate(json.loads(completion.text), SCHEMA)
        assert completion.finish_reason == "stop"

    @quick
    @given(st.sampled_from(["integer", "number"]), BOUNDS, BOUNDS, st.integers(0, 9))
    def test_numbers_lie_within_their_bounds(
        self, kind: str, low: int | None, high: int | None, seed: int
    ) -> None:
        if low is not None and high is not None:
            low, high = sorted((low, high))
        bounds = {"minimum": low, "maximum": high}
        number = {"type": kind} | {k: v for k, v in bounds.items() if v is not None}
        schema = {"type": "object", "properties": {"n": number}}

        completion = one(Structure(json_schema=json.dumps(schema)), seed)
        jsonschema.validate(json.loads(completion.text), schema)


class TestRegex:
    @pytest.mark.parametrize(
        "pattern",
        [
            "yes|no",
            " ?[0-9]{1,3}",
            r"\d{4}-\d{2}-\d{2}",
            "(good|bad)( [a-z]+)*",
            r"[^aeiou]+x?",
            r"\w+@\w+\.(com|org)",
            "^start.*end$",
            "(?:a|b){3}",
            "a*?b+?c",
            "(?i:Yes)",
            r"\S\s\S",
        ],
    )
    @pytest.mark.parametrize("seed", range(5))
    def test_an_answer_matches_in_full(self, pattern: str, seed: int) -> None:
        assert re.fullmatch(pattern, one(Structure(regex=pattern), seed).text)


class TestBudget:
    @quick
    @given(
        st.lists(st.tuples(st.integers(1, 150), st.integers(1, 60)), min_size=1, max_size=12),
        st.integers(64, 300),
    )
    def test_everything_ends_and_the_pool_is_never_overdrawn(
        self, shapes: list[tuple[int, int]], blocks: int
    ) -> None:
        numbers = itertools.count()
        requests = [
            request(n, [2, n, *[1] * prompt], max_tokens=output, ignore_eos=True)
            for n, (prompt, output) in zip(numbers, shapes, strict=False)
            if LAYOUT.blocks(prompt + 2 + output) <= blocks
        ]
        made = engine(blocks)
        for each in requests:
            made.add(each)
        ended: list[int] = []
        for _ in range(5000):
            if len(ended) == len(requests):
                break
            ended += [c.request_id for c in made.step()]
            assert 0 <= made.stats.kv_use <= 1

        assert sorted(ended) == [r.id for r in requests]
        assert (made.stats.running, made.stats.waiting, made.stats.kv_use) == (0, 0, 0)

    def test_the_newest_is_preempted_and_still_ends(self) -> None:
        """Two fit at their start, and only one at its end."""
        long = LAYOUT.blocks(40 + 100)
        made = engine(blocks=long + 10)
        first, second = (
            request(n, [2, n, *[1] * 38], max_tokens=100, ignore_eos=True) for n in (1, 2)
        )

        ended = finish(made, [first, second])
        assert [c.request_id for c in ended] == [1, 2]
        assert made.stats.preemptions >= 1

    def test_without_need_nothing_is_preempted(self) -> None:
        made = engine()
        finish(made, [request(n) for n in range(50)])

        assert made.stats.preemptions == 0

    def test_what_does_not_fit_waits(self) -> None:
        made = engine(blocks=LAYOUT.blocks(201) + 1)
        for n in (1, 2):
            made.add(request(n, [2, n, *[1] * 198], max_tokens=2, ignore_eos=True))
        made.step()

        assert (made.stats.running, made.stats.waiting) == (1, 1)

    def test_only_one_chunk_of_prompts_is_let_in_per_step(self) -> None:
        made = engine()
        for n in range(4):
            made.add(request(n, [2, n, *[1] * 998], max_tokens=9, ignore_eos=True))
        made.step()

        assert (made.stats.running, made.stats.waiting) == (3, 1)  # the third with what is left

    def test_a_prompt_of_several_chunks_is_let_in(self) -> None:
        assert finish(engine(), [request(1, [1] * 3000)])

    @pytest.mark.parametrize("prompt", [700, 10])
    def test_a_request_that_the_whole_pool_cannot_hold_is_refused(self, prompt: int) -> None:
        """At its start or at its end; else it would wait for ever."""
        with pytest.raises(RowError):
            finish(
                engine(blocks=64), [request(1, [1] * prompt, max_tokens=700, ignore_eos=True)], 3000
            )

    def test_a_request_longer_than_the_context_is_refused(self) -> None:
        with pytest.raises(RowError):
            finish(engine(max_model_len=64), [request(1, [1] * 65)])

    def test_an_aborted_request_frees_its_blocks_and_gives_no_completion(self) -> None:
        made = engine()
        for n in (1, 2):
            made.add(request(n, max_tokens=50, ignore_eos=True))
        made.step()
        made.abort([1])
        ended = [c.request_id for _ in range(60) for c in made.step()]

        assert ended == [2]
        assert made.stats.kv_use == 0

    def test_a_waiting_request_can_be_aborted(self) -> None:
        made = engine()
        made.add(request(1))
        made.abort([1])

        assert made.step() == []

    def test_its_facts_are_those_of_its_settings(self) -> None:
        facts = engine(blocks=100, max_model_len=77).facts

        assert (facts.num_blocks, facts.max_model_len, facts.block_size) == (100, 77, 16)
        assert facts.kv_bytes == 100 * LAYOUT.block_bytes


class TestReset:
    """An engine that is kept for the next job."""

    def asked(self, made: SimulatedEngine) -> list[object]:
        """What comes of more tokens than are computed in a step, step by step."""
        for n in range(6):
            made.add(request(n, [2, *[n] * 698], max_tokens=30))
        seen: list[object] = []
        for _ in range(100):
            ended = [(c.request_id, c.text) for c in made.step()]
            seen.append((ended, made.stats.running, made.stats.waiting, made.stats.kv_use))
        return seen

    def test_it_answers_as_a_new_one_does_step_by_step(self) -> None:
        """Nothing is left in the prefix cache: it would begin with more at once."""
        made = engine()
        first = self.asked(made)
        assert self.asked(made) != first
        made.reset()

        assert self.asked(made) == first == self.asked(engine())

    def test_its_statistics_are_at_zero(self) -> None:
        made = engine(blocks=LAYOUT.blocks(40 + 100) + 10)
        long = (request(n, [2, n, *[1] * 38], max_tokens=100, ignore_eos=True) for n in (1, 2))
        finish(made, list(long))
        assert made.stats.preemptions > 0
        stats = made.stats
        made.reset()

        assert made.stats == EngineStats()
        assert made.stats is stats  # whoever watches them goes on

    def test_requests_that_it_had_are_forgotten(self) -> None:
        made = engine()
        made.add(request(1, max_tokens=50, ignore_eos=True))
        made.step()
        made.reset()

        assert [made.step() for _ in range(60)] == [[]] * 60
        assert finish(made, [request(1)])
