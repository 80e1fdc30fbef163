"""Servers of OpenAI's interface: what each can do is tried, and used as it is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pipeline.errors import EndpointUnfit
from pipeline.model.tokenizer import Tokenizer
from pipeline.rows.request import Request, Structure
from tests.engine.http.fake_server import FakeServer, Handler, streamed
from tests.engine.http.side import ended, engine_at, request_of
from tests.support.samples import write_model


class Completions:
    """A server of ``/v1/completions``. ``logprobs``: it tells so many; ``shapes``: keys of a
    request by which it holds answers to a shape; ``streams``: it knows ``stream``."""

    def __init__(
        self,
        folder: Path,
        *,
        owner: str,
        logprobs: int = 0,
        shapes: tuple[str, ...] = (),
        streams: bool = True,
        **own: Any,
    ) -> None:
        write_model(folder / "model")
        self._tokenizer = Tokenizer(folder / "model")
        self._owner, self._logprobs, self._shapes, self._own = owner, logprobs, shapes, own
        self._asked, self._streams = 0, streams

    async def __call__(self, request: web.Request, body: Any) -> web.StreamResponse:
        if request.path == "/v1/models":
            model = {"id": "gemma", "owned_by": self._owner} | self._own
            return web.json_response({"data": [model]})
        if "stream" in body and not self._streams:
            return web.json_response({"error": {"message": "no stream"}}, status=400)
        wanted = body.get("logprobs", 0)
        if wanted > self._logprobs:
            return web.json_response({"error": {"message": "too many logprobs"}}, status=400)
        prompt = body["prompt"]
        ids = prompt if isinstance(prompt, list) else self._tokenizer.encode_batch([prompt])[0]
        held = next((body[key] for key in self._shapes if key in body), None)
        text = "yes" if held is None else '{"answer": "rackmill"}'
        if held is not None and "regex" in held:
            text = "zq7"
        elif held is not None and '"enum": ["yes"' in json.dumps(held):
            text = '"yes"'
        if body.get("temperature", 0) > 0:
            self._asked += 1
            text = f"drawn {self._asked}"
        choice: dict[str, Any] = {"text": text, "finish_reason": "stop"}
        if wanted:
            top = {f"token_id:{i}": -1.0 - i for i in range(wanted)}
            choice["logprobs"] = {"top_logprobs": [top]}
        usage = {"prompt_tokens": len(ids), "completion_tokens": 2}
        if body.get("stream"):
            parts = [{"choices": [{"text": one, "finish_reason": None}]} for one in text]
            end = {"choices": [{"text": "", "finish_reason": "stop"}]}
            counts = {"choices": [], "usage": usage}
            return await streamed(request, [*parts, end, counts, "[DONE]"])
        return web.json_response({"choices": [choice], "usage": usage})


def vllm(folder: Path) -> Handler:
    return Completions(
        folder,
        owner="vllm",
        logprobs=20,
        shapes=("response_format", "structured_outputs"),
        max_model_len=512,
    )


def lm_studio(folder: Path) -> Handler:
    return Completions(folder, owner="organization_owner", shapes=("response_format",))


def test_vllm_serve_is_known_and_gets_token_ids(tmp_path: Path) -> None:
    with FakeServer(vllm(tmp_path)) as server:
        engine = engine_at(server.url, tmp_path, "openai", engine={"max_num_seqs": 2})
        engine.add(request_of(presence_penalty=0.5))
        [found] = ended(engine)
        can = engine.capabilities
        engine.close()

    assert (can.token_ids, can.top_logprobs, can.json_schema, can.regex) == (True, 20, True, True)
    assert (can.context, can.concurrency) == (512, 2)
    assert found.text == "yes"
    assert server.asked[-1][1]["prompt"] == [2, 5, 6, 7]


def test_log_probabilities_come_by_token_id(tmp_path: Path) -> None:
    with FakeServer(vllm(tmp_path)) as server:
        engine = engine_at(server.url, tmp_path, "openai", engine={"max_num_seqs": 2})
        one = request_of()
        engine.add(Request(1, one.prompt_ids, one.sampling, logprob_ids=(3, 400)))
        [found] = ended(engine)
        engine.close()

    assert found.logprobs == {3: -4.0, 400: -20.0}


def test_mlx_is_asked_for_log_probabilities_as_in_chats(tmp_path: Path) -> None:
    """As mlx_lm 0.32.2 wants and tells them."""
    plain = lm_studio(tmp_path)

    async def mlx(request: web.Request, body: Any) -> web.StreamResponse:
        if request.path == "/v1/models" or "logprobs" not in body:
            return await plain(request, body)
        if not isinstance(body["logprobs"], bool) or body["top_logprobs"] > 11:
            return web.json_response({"error": "logprobs must be of type bool"}, status=400)
        top = [{"id": i, "token": "a", "logprob": -1.0 - i} for i in range(body["top_logprobs"])]
        told = {"content": [top[0] | {"top_logprobs": top}]}
        choice = {"text": "a", "finish_reason": "length", "logprobs": told}
        return web.json_response({"choices": [choice], "usage": {"prompt_tokens": 4}})

    with FakeServer(mlx) as server:
        engine = engine_at(server.url, tmp_path, "mlx", engine={"max_num_seqs": 2})
        one = request_of()
        engine.add(Request(1, one.prompt_ids, one.sampling, logprob_ids=(3, 400)))
        [found] = ended(engine)
        can = engine.capabilities
        engine.close()

    assert can.top_logprobs == 10
    assert found.logprobs == {3: -4.0, 400: -10.0}


def test_a_server_without_log_probabilities_gets_texts_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    with FakeServer(lm_studio(tmp_path)) as server:
        engine = engine_at(server.url, tmp_path, "lmstudio", said, engine={"max_num_seqs": 1})
        engine.add(request_of())
        ended(engine)
        facts = engine.facts
        engine.close()

    assert (facts.logprobs, facts.held) == (False, ("json",))
    assert "no log-probabilities · JSON held · text" in said[0]
    assert isinstance(server.asked[-1][1]["prompt"], str)


def test_a_schema_goes_by_the_key_that_was_found_to_hold(tmp_path: Path) -> None:
    with FakeServer(lm_studio(tmp_path)) as server:
        engine = engine_at(server.url, tmp_path, "lmstudio", engine={"max_num_seqs": 1})
        one = request_of()
        engine.add(Request(1, one.prompt_ids, one.sampling, Structure('{"type": "object"}')))
        ended(engine)
        engine.close()

    sent = server.asked[-1][1]["response_format"]["json_schema"]
    assert sent["schema"] == {"type": "object"}


def test_a_server_that_draws_otherwise_with_the_same_seed_is_refused_for_seeds(
    tmp_path: Path,
) -> None:
    with (
        FakeServer(lm_studio(tmp_path)) as server,
        pytest.raises(EndpointUnfit, match=r"sampling\.seed"),
    ):
        engine_at(
            server.url,
            tmp_path,
            "lmstudio",
            engine={"max_num_seqs": 1},
            sampling={"seed": 1, "temperature": 1.0},
        )


def test_another_model_is_told_by_its_tokens(tmp_path: Path) -> None:
    class Other(Completions):
        async def __call__(self, request: web.Request, body: Any) -> web.StreamResponse:
            if request.path == "/v1/models":
                return await super().__call__(request, body)
            usage = {"prompt_tokens": 7, "completion_tokens": 1}
            choice = {"text": "a", "finish_reason": "length"}
            return web.json_response({"choices": [choice], "usage": usage})

    with (
        FakeServer(Other(tmp_path, owner="me")) as server,
        pytest.raises(EndpointUnfit, match="another model than the job's: it counts 7 tokens"),
    ):
        engine_at(server.url, tmp_path, "openai", engine={"max_num_seqs": 1})


def test_of_several_models_the_job_has_to_name_one(tmp_path: Path) -> None:
    async def two(*_: Any) -> web.StreamResponse:
        return web.json_response({"data": [{"id": "a"}, {"id": "b"}]})

    with FakeServer(two) as server:
        with pytest.raises(EndpointUnfit, match=re.escape("serves 2 models: a, b")):
            engine_at(server.url, tmp_path, "openai")
        with pytest.raises(EndpointUnfit, match="does not serve c; it serves a, b"):
            engine_at(server.url, tmp_path, "openai", engine={"served_model": "c"})
