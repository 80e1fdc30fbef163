"""What a real llama.cpp answers: one that comes built with the tests' packages, and (long) its own
program."""

from __future__ import annotations

import json
import math
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow.dataset as ds
import pytest

from pipeline import Job
from pipeline.engine.http.kind import connect
from pipeline.engine.llama_cpp.binary import find_binary
from pipeline.engine.llama_cpp.flags import flags
from pipeline.engine.llama_cpp.server import LlamaProcess
from pipeline.engine.protocol import Engine
from pipeline.errors import EndpointUnfit, RowErrorType
from pipeline.job.sampling import Sampling
from pipeline.model.folder import ModelFolder
from pipeline.model.store.resolve import gguf_of
from pipeline.model.tokenizer import Tokenizer
from pipeline.output.columns.results import RowResult
from pipeline.rows.request import Completion, Request
from pipeline.worker.answer_rows import RowPlace, answer_rows
from tests.chaos.in_process import run_here
from tests.support.engine_probe import CITIES, CITY_PROMPTS, JSON_SCHEMA, REGEX
from tests.support.samples import job
from tests.support.servers import MODEL, built_llama, demo_job, prebuilt_llama

pytestmark = pytest.mark.engine

_CONTEXT = 1024  # tokens of a request
_SLOTS = 2
_FINDERS = {"prebuilt": prebuilt_llama, "built": lambda folder: built_llama()}


@dataclass(frozen=True)
class Served:
    """A llama-server of the model, and an engine of it."""

    model: ModelFolder
    process: LlamaProcess
    engine: Engine

    @property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer(self.model.path)

    def answers(self, texts: list[str], **changes: Any) -> list[RowResult]:
        """What rows with these texts get of a job with ``changes``."""
        rows = [{"text": text} for text in texts]
        places = [RowPlace("a", number) for number in range(len(rows))]
        return answer_rows(_job(**changes), rows, places, self.engine, self.tokenizer)

    def completions(self, *requests: Request) -> list[Completion]:
        for request in requests:
            self.engine.add(request)
        done: list[Completion] = []
        while len(done) < len(requests):
            done += self.engine.step()
        return sorted(done, key=lambda one: one.request_id)

    def ask(self, path: str, body: Any = None) -> Any:
        """Without any code of ours."""
        headers = {"Authorization": f"Bearer {self.process.key}", "Content-Type": "text/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.process.url + path, data, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())


def _job(**changes: Any) -> Job:
    return job(**{"model": MODEL, "prompt": "{text}"} | changes)


def _attached(url: str) -> Job:
    return _job(engine={"kind": "llama.cpp", "url": url})


@pytest.fixture(scope="module", params=["prebuilt", pytest.param("built", marks=pytest.mark.long)])
def llama_program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _FINDERS[request.param](tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def served(llama_program: Path, model: ModelFolder) -> Iterator[Served]:
    chosen = flags(model.geometry, context=_CONTEXT, slots=_SLOTS, cores=2, memory=1 << 30)
    gguf = gguf_of(MODEL, model)
    process = LlamaProcess(find_binary(str(llama_program)), [*chosen, "--model", str(gguf)])
    process.wait(120)
    engine = connect(_attached(process.url), model, print, process.url, process.key, process.end)
    yield Served(model, process, engine)
    engine.close()
    assert not psutil.pid_exists(process.pid)


def test_it_says_what_it_can_do(served: Served) -> None:
    facts = served.engine.facts

    # as many as it works on, and as many again that wait there
    assert (facts.max_num_seqs, facts.max_model_len) == (2 * _SLOTS, _CONTEXT)
    assert facts.logprobs
    assert facts.held == ("json", "regex")


@pytest.mark.parametrize("number", range(len(CITY_PROMPTS)))
def test_labels_are_weighed_over_whole_words(number: int, served: Served) -> None:
    """Choices of several tokens that share their first, against every token of each by itself."""
    prompt = CITY_PROMPTS[number]
    [result] = served.answers([prompt], label={"choices": CITIES})
    head, *whole = served.tokenizer.encode_batch([prompt, *(f"{prompt} {c}" for c in CITIES)])
    weights = {}
    for city, ids in zip(CITIES, whole, strict=True):
        weights[city] = math.exp(sum(_logprob(served, ids, n) for n in range(len(head), len(ids))))
    found = {city: weight / sum(weights.values()) for city, weight in weights.items()}

    assert result.label == max(found, key=found.__getitem__)
    assert result.confidence == pytest.approx(found[str(result.label)], abs=0.01)


def _logprob(served: Served, ids: list[int], place: int) -> float:
    body = {"prompt": ids[:place], "n_predict": 1, "n_probs": 1000, "temperature": 0.0}
    [one] = served.ask("/completion", body)["completion_probabilities"]
    found = (top["logprob"] for top in one["top_logprobs"] if top["id"] == ids[place])
    return next(found, -math.inf)


def test_an_answer_is_json_of_the_schema(served: Served) -> None:
    label = {"json_schema": JSON_SCHEMA}
    whole, cut = (
        served.answers(["A letter in short:"], label=label, sampling={"max_tokens": most})[0]
        for most in (60, 4)
    )

    assert json.loads(str(whole.completion)).keys() == {"mood", "urgent"}
    assert whole.fields["mood"] in ("glad", "sad")
    assert cut.error is not None
    assert cut.error.type is RowErrorType.SCHEMA_NOT_MET


def test_an_answer_matches_the_regular_expression(served: Served) -> None:
    texts = [f"Licence plate number {n}:" for n in range(4)]
    found = served.answers(texts, label={"regex": REGEX}, sampling={"max_tokens": 20})

    assert all(re.fullmatch(REGEX, str(one.completion)) for one in found), found


def test_a_prompt_that_is_longer_than_the_context_is_that_rows_error(served: Served) -> None:
    """Also where it gets as far as the server, which does not cut it."""
    [result] = served.answers(["word " * 2 * _CONTEXT])
    plain = served.tokenizer.encode_batch(["Two and two are"])[0]
    long, short = served.completions(
        Request(1, plain * _CONTEXT, Sampling(max_tokens=4)),
        Request(2, plain, Sampling(max_tokens=4)),
    )

    assert result.error is not None
    assert result.error.type is RowErrorType.PROMPT_TOO_LONG
    assert long.error is not None
    assert long.error.type is RowErrorType.PROMPT_TOO_LONG
    assert short.error is None


def test_equal_seeds_draw_alike_and_others_otherwise(served: Served) -> None:
    ids = served.tokenizer.encode_batch(["A list of animals:"])[0]
    drawn = [
        served.completions(Request(1, ids, Sampling(temperature=1.5, seed=seed, max_tokens=12)))
        for seed in (7, 7, 8, 9)
    ]
    texts = [one.text for [one] in drawn]

    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


def test_why_an_answer_ended_is_told(served: Served) -> None:
    ids = served.tokenizer.encode_batch(["1, 2, 3, 4, 5, 6,"])[0]
    stopped, cut = served.completions(
        Request(1, ids, Sampling(max_tokens=40, stop=[" 9"])),
        Request(2, ids, Sampling(max_tokens=3, ignore_eos=True)),
    )

    assert (stopped.finish_reason, cut.finish_reason) == ("stop", "length")
    assert " 9" not in str(stopped.text)
    assert cut.completion_tokens == 3


def test_the_slot_of_an_aborted_request_is_free_again(served: Served) -> None:
    ids = served.tokenizer.encode_batch(["Once upon a time"])[0]
    endless = Sampling(max_tokens=_CONTEXT - 64, ignore_eos=True)
    for number in range(_SLOTS):
        served.engine.add(Request(number, ids, endless))
    while not all(slot["is_processing"] for slot in served.ask("/slots")):
        assert served.engine.step() == []
    served.engine.abort(range(_SLOTS))
    [after] = served.completions(Request(9, ids, Sampling(max_tokens=2)))

    assert after.error is None
    assert not any(slot["is_processing"] for slot in served.ask("/slots"))


def test_without_its_key_it_is_said_where_to_give_it(served: Served) -> None:
    url = served.process.url
    with pytest.raises(EndpointUnfit, match=r"engine\.api_key"):
        connect(_attached(url), served.model, print, url, "wrong")

    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{url}/props", timeout=10)


def test_rackmill_starts_it_gets_every_row_and_ends_it(
    llama_program: Path, model: ModelFolder, tmp_path: Path
) -> None:
    engine = {"kind": "llama.cpp", "server": str(llama_program), "max_model_len": 512}
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    run_here(demo_job(tmp_path, 16, engine, examples=None))
    rows = ds.dataset(tmp_path / "out").to_table().to_pydict()
    left = {child.pid for child in psutil.Process().children(recursive=True)} - before

    assert len(rows["label"]) == 16
    assert set(rows["error"]) == {None}
    assert all(0.5 <= confidence <= 1 for confidence in rows["confidence"])
    assert not left
