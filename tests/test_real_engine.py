"""One real vLLM engine, asked directly: loading it takes half a minute, so it is asked all at once.

Run as a script, this file is the probe: it loads one engine in its own process, asks it what the
tests want to know, and writes the answers down.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import Job
from pipeline.budget.kv import KvLayout
from pipeline.budget.settings import PromptShape, cpu_arguments, gpu_arguments
from pipeline.data.answers import Answers
from pipeline.data.results import RowResult
from pipeline.data.seam import Prompt
from pipeline.engine.gpu.offer import offer
from pipeline.engine.load import load_engine
from pipeline.engine.machine import available_memory, cpu_environment
from pipeline.engine.protocol import EngineStats
from pipeline.engine.vllm_engine import environment
from pipeline.errors import EngineFailed, RowError, RowErrorType
from pipeline.model.store import ModelFolder
from pipeline.model.tokenizer import Tokenizer
from pipeline.schedule.request import Completion, Request
from pipeline.spec.sampling import Sampling

pytestmark = [pytest.mark.engine, pytest.mark.ray]

_CITIES = ["New York", "New Delhi", "New Orleans", "Paris"]
_CITY_PROMPTS = [
    "The capital of India is",
    "Jazz was born in the city of",
    "The Eiffel Tower stands in",
    "The Statue of Liberty stands in",
]
_JSON_SCHEMA = {
    "type": "object",
    "properties": {"mood": {"enum": ["glad", "sad"]}, "urgent": {"type": "boolean"}},
    "required": ["mood", "urgent"],
}
_REGEX = r"[A-Z]{3}-[0-9]{2}"
_KV_BYTES = 300 << 20


class _Probe:
    """One loaded engine, and the questions the tests have for it."""

    def __init__(self, model: ModelFolder) -> None:
        self.model = model
        self.tokenizer = Tokenizer(model.path)
        shape = PromptShape(mean=20, longest=40, shared_prefix=1)
        given = {"kv_cache_memory_bytes": _KV_BYTES, "max_model_len": 2048}
        arguments = (
            gpu_arguments(given)
            if offer().gpus
            else cpu_arguments(model.geometry, given, shape, available_memory())
        )
        self.engine = load_engine(_job(label={"json_schema": _JSON_SCHEMA}), arguments, model)
        self._ids = iter(range(1_000_000, 2_000_000))

    def answers(self) -> dict[str, Any]:
        return {
            "facts": asdict(self.engine.facts),
            "cities": [self._labelled(prompt) for prompt in _CITY_PROMPTS],
            "brute_force": [self._brute_force(prompt) for prompt in _CITY_PROMPTS],
            "json": self._result(_job(label={"json_schema": _JSON_SCHEMA}), 40),
            "json_cut_off": self._result(_job(label={"json_schema": _JSON_SCHEMA}), 4),
            "regex": self._result(_job(label={"regex": _REGEX}), 20),
            "refused": self._refusal(_refused_by_vllm(), [2, 10, 11]),
            "unknown_token": self._refusal(Sampling(), [2, 10, 1 << 30]),
            "negative_token": self._refusal(Sampling(), [2, 10, -1]),
            "after_refusals": self._result(_job(), 8),
            "aborted": self._aborted(),
            "stats": asdict(self.engine.stats),
            "reset": self._reset(),
        }

    def _complete(self, requests: Sequence[Request]) -> list[Completion]:
        for request in requests:
            self.engine.add(request)
        done: list[Completion] = []
        while len(done) < len(requests):
            done += self.engine.step()
        return done

    def _answer(self, job: Job, text: str, max_tokens: int) -> RowResult:
        (ids,) = self.tokenizer.encode_batch([text])
        answers = Answers(job, self.tokenizer, max_model_len=self.engine.facts.max_model_len)
        answer = answers.answer(Prompt(ids, text, Sampling(max_tokens=max_tokens)))
        requests = answer.start()
        while answer.result is None:
            requests = [r for done in self._complete(requests) for r in answer.receive(done)]
        return answer.result

    def _result(self, job: Job, max_tokens: int) -> dict[str, Any]:
        result = self._answer(job, "A cheerful letter in short:", max_tokens)
        return {
            "completion": result.completion,
            "fields": dict(result.fields),
            "tokens": result.completion_tokens,
            "error": result.error and [result.error.type.value, result.error.message],
        }

    def _labelled(self, prompt: str) -> tuple[str | None, float | None]:
        result = self._answer(_job(label={"choices": _CITIES}), prompt, 8)
        return result.label, result.confidence

    def _brute_force(self, prompt: str) -> dict[str, float]:
        """Each choice's probability: every token's log-probability from a request of its own."""
        head, *whole = self.tokenizer.encode_batch([prompt, *(f"{prompt} {c}" for c in _CITIES)])
        weights = []
        for ids in whole:
            requests = [
                Request(next(self._ids), ids[:n], Sampling(), logprob_ids=(ids[n],))
                for n in range(len(head), len(ids))
            ]
            logs = [next(iter(c.logprobs.values())) for c in self._complete_exactly(requests)]
            weights.append(math.exp(sum(logs)))
        return {c: w / sum(weights) for c, w in zip(_CITIES, weights, strict=True)}

    def _complete_exactly(self, requests: Sequence[Request]) -> list[Completion]:
        """The completions, each stripped to the token that was asked for."""
        wanted = {request.id: request.logprob_ids[0] for request in requests}
        done = self._complete(requests)
        return [
            Completion(c.request_id, logprobs={0: c.logprobs[wanted[c.request_id]]}) for c in done
        ]

    def _refusal(self, sampling: Sampling, ids: list[int]) -> list[str] | None:
        request = Request(next(self._ids), ids, sampling)
        try:
            self.engine.add(request)
        except RowError as error:
            return [error.type.value, error.message]
        except Exception as error:  # would take the worker along: the tests say so
            return [f"not a RowError but {type(error).__name__}", str(error)]
        self.engine.abort([request.id])
        return None

    def _aborted(self) -> list[int]:
        """Two long requests, one of them dropped: the ids of the completions that come."""
        (ids,) = self.tokenizer.encode_batch(["Once upon a time"])
        long = Sampling(max_tokens=24, ignore_eos=True)
        kept, dropped = (Request(next(self._ids), ids, long) for _ in range(2))
        self.engine.add(kept)
        self.engine.add(dropped)
        self.engine.step()
        self.engine.abort([dropped.id])
        done = [c for _ in range(30) for c in self.engine.step()]
        return [c.request_id - kept.id for c in done]

    def _reset(self) -> dict[str, Any]:
        """What a reset leaves, and what one says while there is a request in the engine."""
        (ids,) = self.tokenizer.encode_batch(["A long story about a small town:"])
        long = Request(next(self._ids), ids * 8, Sampling(max_tokens=24, ignore_eos=True))
        (before,) = self._complete([long])
        refused = None
        again = replace(long, id=next(self._ids))
        self.engine.add(again)
        self.engine.step()
        try:
            self.engine.reset()
        except EngineFailed as error:
            refused = error.message
        self.engine.abort([again.id])
        self.engine.reset()
        stats = asdict(self.engine.stats)
        (after,) = self._complete([replace(long, id=next(self._ids))])
        return {
            "refused": refused,
            "stats": stats,
            "texts": [before.text, after.text],
            "steps": self.engine.stats.steps,
        }


def _refused_by_vllm() -> Sampling:
    """What our own checks would find first, had they not been passed by."""
    return Sampling().model_copy(update={"min_tokens": 9, "max_tokens": 4})


def _job(label: dict[str, Any] | None = None) -> Job:
    content = {
        "name": "probe",
        "model": "gemma-3-270m",
        "input": {"path": "rows.parquet"},
        "prompt": "{text}",
        "output": {"path": "out"},
    }
    return Job.model_validate(content | ({"label": label} if label else {}))


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory, launcher, model: ModelFolder) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("probe")
    variables = environment(gpu=bool(offer().gpus), eager=not offer().gpus) | (
        {} if offer().gpus else cpu_environment(0, 1)
    )
    finished = launcher.python(Path(__file__), model.path, "answers.json", cwd=folder, **variables)
    assert finished.code == 0, finished.err
    return json.loads((folder / "answers.json").read_text())


@pytest.mark.parametrize("number", range(len(_CITY_PROMPTS)))
def test_label_probabilities_agree_with_brute_force(number: int, probe: dict[str, Any]) -> None:
    """Choices of several tokens that share their first: the walk down the tree leaves nothing
    out that counts."""
    label, confidence = probe["cities"][number]
    expected = probe["brute_force"][number]
    assert confidence == pytest.approx(expected[label], abs=1e-2)
    assert expected[label] == pytest.approx(max(expected.values()), abs=1e-2)


def test_json_output_is_json_of_the_schema(probe: dict[str, Any]) -> None:
    result = probe["json"]
    assert result["error"] is None
    assert json.loads(result["completion"]) == result["fields"]
    assert result["fields"]["mood"] in ("glad", "sad")
    assert isinstance(result["fields"]["urgent"], bool)


def test_json_that_is_cut_off_is_an_error_that_names_the_limit(probe: dict[str, Any]) -> None:
    kind, message = probe["json_cut_off"]["error"]
    assert kind == "SchemaNotMet"
    assert "max_tokens (4)" in message


def test_regex_output_matches(probe: dict[str, Any]) -> None:
    assert probe["regex"]["error"] is None
    assert re.fullmatch(_REGEX, probe["regex"]["completion"])


def test_sampling_that_vllm_will_not_have_is_the_rows_error(probe: dict[str, Any]) -> None:
    kind, message = probe["refused"]
    assert kind == "InvalidSampling"
    assert "min_tokens" in message


@pytest.mark.parametrize("name", ["unknown_token", "negative_token"])
def test_a_token_id_that_the_model_lacks_is_the_rows_error(
    name: str, probe: dict[str, Any]
) -> None:
    assert probe[name] is not None, "the engine took a token id outside its vocabulary"
    assert probe[name][0] in set(RowErrorType)


def test_the_engine_goes_on_after_refusals(probe: dict[str, Any]) -> None:
    assert probe["after_refusals"]["error"] is None
    assert probe["after_refusals"]["tokens"] >= 1


def test_an_aborted_request_never_completes(probe: dict[str, Any]) -> None:
    assert probe["aborted"] == [0]


def test_the_pool_has_the_blocks_that_the_budget_computes(
    probe: dict[str, Any], model: ModelFolder
) -> None:
    facts = probe["facts"]
    layout = KvLayout(model.geometry, facts["block_size"], facts["max_num_batched_tokens"])
    assert facts["num_blocks"] == layout.num_blocks(_KV_BYTES) - 1


def test_nothing_is_left_running_when_all_is_answered(probe: dict[str, Any]) -> None:
    assert (probe["stats"]["running"], probe["stats"]["waiting"]) == (0, 0)


def test_an_engine_that_works_on_a_request_is_not_reset(probe: dict[str, Any]) -> None:
    assert probe["reset"]["refused"] == "vLLM still works on requests"


def test_after_a_reset_it_answers_as_before_and_counts_anew(probe: dict[str, Any]) -> None:
    reset = probe["reset"]
    assert reset["stats"] == asdict(EngineStats()) | {"sampled": []}
    assert reset["texts"][0] == reset["texts"][1] != ""
    assert 24 <= reset["steps"] <= 26


def _main(model_path: str, answers_path: str) -> None:
    probe = _Probe(ModelFolder("gemma-3-270m", Path(model_path)))
    answers = probe.answers()
    probe.engine.close()
    Path(answers_path).write_text(json.dumps(answers))


if __name__ == "__main__":
    _main(*sys.argv[1:])
