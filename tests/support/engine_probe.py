"""One real vLLM engine, asked directly: loading it takes half a minute, so it is asked all at once.

Run as a script: it loads one engine in its own process, asks it what ``test_real_engine`` wants to
know, writes the answers down, and works on until it is killed.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pipeline import Job
from pipeline.budget.engine_arguments import PromptShape
from pipeline.engine.failure.child_guard import guard_children
from pipeline.engine.load import load_engine
from pipeline.engine.standalone.engine import standalone
from pipeline.errors import EngineFailed, RowError
from pipeline.job.sampling import Sampling
from pipeline.model.folder import ModelFolder
from pipeline.model.tokenizer import Tokenizer
from pipeline.output.columns.results import RowResult
from pipeline.prompt.answers import Answers
from pipeline.prompt.join import Prompt
from pipeline.rows.request import Completion, Request

CITIES = ["New York", "New Delhi", "New Orleans", "Paris"]
CITY_PROMPTS = [
    "The capital of India is",
    "Jazz was born in the city of",
    "The Eiffel Tower stands in",
    "The Statue of Liberty stands in",
]
QUESTIONED = (
    "Late again, two hours at the gate and nobody could tell us when we would leave, or why."
)
QUESTIONS = [" Was something late?", " The mood is", " Where was it? At the"]
JSON_SCHEMA = {
    "type": "object",
    "properties": {"mood": {"enum": ["glad", "sad"]}, "urgent": {"type": "boolean"}},
    "required": ["mood", "urgent"],
}
REGEX = r"[A-Z]{3}-[0-9]{2}"
KV_BYTES = 300 << 20
STOPPED = 24  # requests with a stop string


class _Probe:
    """One loaded engine, and the questions the tests have for it."""

    def __init__(self, model: ModelFolder) -> None:
        self.model = model
        self.tokenizer = Tokenizer(model.path)
        shape = PromptShape(mean=20, longest=40, shared_prefix=1)
        given = {"kv_cache_memory_bytes": KV_BYTES, "max_model_len": 2048}
        arguments = standalone().arguments(model, shape, 256, given)
        self.engine = load_engine(_job(label={"json_schema": JSON_SCHEMA}), arguments, model)
        self._ids = iter(range(1_000_000, 2_000_000))

    def answers(self) -> dict[str, Any]:
        return {
            "facts": asdict(self.engine.facts),
            "questions": self._questions(),
            "cities": [self._labelled(prompt) for prompt in CITY_PROMPTS],
            "brute_force": [self._brute_force(prompt) for prompt in CITY_PROMPTS],
            "json": self._result(_job(label={"json_schema": JSON_SCHEMA}), 40),
            "json_cut_off": self._result(_job(label={"json_schema": JSON_SCHEMA}), 4),
            "regex": self._result(_job(label={"regex": REGEX}), 20),
            "refused": self._refusal(_refused_by_vllm(), [2, 10, 11]),
            "unknown_token": self._refusal(Sampling(), [2, 10, 1 << 30]),
            "negative_token": self._refusal(Sampling(), [2, 10, -1]),
            "after_refusals": self._result(_job(), 8),
            "aborted": self._aborted(),
            "stopped": self._stopped(),
            "late": self._late(),
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
        result = self._answer(_job(label={"choices": CITIES}), prompt, 8)
        return result.label, result.confidence

    def _brute_force(self, prompt: str) -> dict[str, float]:
        """Each choice's probability: every token's log-probability from a request of its own."""
        head, *whole = self.tokenizer.encode_batch([prompt, *(f"{prompt} {c}" for c in CITIES)])
        weights = []
        for ids in whole:
            requests = [
                Request(next(self._ids), ids[:n], Sampling(), logprob_ids=(ids[n],))
                for n in range(len(head), len(ids))
            ]
            logs = [next(iter(c.logprobs.values())) for c in self._complete_exactly(requests)]
            weights.append(math.exp(sum(logs)))
        return {c: w / sum(weights) for c, w in zip(CITIES, weights, strict=True)}

    def _complete_exactly(self, requests: Sequence[Request]) -> list[Completion]:
        """The completions, each stripped to the token that was asked for."""
        wanted = {request.id: request.logprob_ids[0] for request in requests}
        done = self._complete(requests)
        return [
            Completion(c.request_id, logprobs={0: c.logprobs[wanted[c.request_id]]}) for c in done
        ]

    def _questions(self) -> dict[str, Any]:
        """What is likely after each question of a text: asked alone, of an engine that does not
        know the text, and with the others, as those of one row. And the steps of the row's."""
        text, *asked = self.tokenizer.encode_batch([QUESTIONED, *QUESTIONS])
        requests = [
            Request(next(self._ids), text + one[1:], Sampling(), logprob_ids=tuple(text[1:9]))
            for one in asked
        ]
        alone = []
        for request in requests:
            self.engine.reset()
            alone += self._complete([request])
        self.engine.reset()
        in_row = [replace(one, id=next(self._ids), row=requests[0].id) for one in requests]
        together = {one.request_id: one.logprobs for one in self._complete(in_row)}
        return {
            "alone": [dict(one.logprobs) for one in alone],
            "in a row": [dict(together[request.id]) for request in in_row],
            "steps": self.engine.stats.steps,
        }

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

    def _stopped(self) -> dict[str, Any]:
        """Many that end at a stop string, found by a frontend that is much slower than the core:
        the core has gone on with them by then. One without a stop string outlasts them all."""
        prompts = [f"{n + 1}, {n + 2}, {n + 3}," for n in range(STOPPED)]
        sampling = Sampling(temperature=0.0, max_tokens=64, stop=(",",))
        requests = [
            Request(next(self._ids), ids, sampling) for ids in self.tokenizer.encode_batch(prompts)
        ]
        long = Sampling(temperature=0.0, max_tokens=40, ignore_eos=True)
        requests.append(Request(next(self._ids), requests[0].prompt_ids, long))
        going = {request.id for request in requests}
        for request in requests:
            self.engine.add(request)
        done: list[Completion] = []
        strangers: list[int] = []
        while len(done) < len(requests):
            self._fall_behind()
            ended = self.engine.step()
            strangers += [i for i in self.engine.stats.sampled if i not in going]
            going -= {completion.request_id for completion in ended}
            done += ended
        done = [completion for completion in done if completion.request_id != requests[-1].id]
        return {
            "texts": [completion.text for completion in done],
            "reasons": [completion.finish_reason for completion in done],
            "strangers": strangers,
            "late_tokens": self.engine.stats.late_tokens,
        }

    def _fall_behind(self) -> None:
        """Let a core that steps by itself get three steps ahead, or have nothing left to do."""
        said = getattr(self.engine._engine.engine_core, "outputs_queue", None)
        end = time.monotonic() + 1.0
        while said is not None and said.qsize() < 3 and time.monotonic() < end:
            time.sleep(0.01)

    def _late(self) -> dict[str, Any]:
        """The core still speaks of a request that was aborted, while its number has been given to
        another one."""
        (ids,) = self.tokenizer.encode_batch(["Once upon a time"])
        request = Request(next(self._ids), ids, Sampling(max_tokens=4, ignore_eos=True))
        _say_late(self.engine, f"{request.id}-beefbeef")
        late = self.engine.stats.late_tokens
        self.engine.add(request)
        sampled: list[int] = []
        done: list[Completion] = []
        while not done:
            done = self.engine.step()
            sampled += self.engine.stats.sampled
        return {
            "sampled": len(sampled),
            "tokens": done[0].completion_tokens,
            "late": self.engine.stats.late_tokens - late,
        }

    def work_on(self) -> None:
        """Until this process is killed, or for two minutes."""
        (ids,) = self.tokenizer.encode_batch(["Once upon a time"])
        long = Request(next(self._ids), ids, Sampling(max_tokens=2000, ignore_eos=True))
        end = time.monotonic() + 120
        while time.monotonic() < end:
            self._complete([replace(long, id=next(self._ids))])

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


def _say_late(engine: Any, name: str) -> None:
    """Have the core say that it gave a token to a request that it calls ``name``."""
    from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs

    output = EngineCoreOutput(name, [7])
    client = engine._engine.engine_core
    if hasattr(client, "outputs_queue"):
        client.outputs_queue.put(EngineCoreOutputs(outputs=[output]))
        return
    core = client.engine_core
    step = core.step_fn

    def step_and_say() -> Any:
        core.step_fn = step
        outputs, executed = step()
        outputs[0].outputs.insert(0, output)
        return outputs, executed

    core.step_fn = step_and_say


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


def _main(model_path: str, answers_path: str) -> None:
    guard_children()
    probe = _Probe(ModelFolder("gemma-3-270m", Path(model_path)))
    path = Path(answers_path)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(probe.answers()))
    part.rename(path)
    probe.work_on()


if __name__ == "__main__":
    _main(*sys.argv[1:])
