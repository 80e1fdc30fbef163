"""Ollama, by the shapes that its documentation gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiohttp import web

from pipeline.model.tokenizer import Tokenizer
from pipeline.rows.request import Request
from tests.engine.http.fake_server import FakeServer, streamed
from tests.engine.http.side import ended, engine_at, request_of
from tests.support.samples import write_model


class Ollama:
    """``least``: prompts are cut to so many tokens, silently."""

    def __init__(self, folder: Path, most: int = 1 << 20) -> None:
        write_model(folder / "model")
        self._tokenizer = Tokenizer(folder / "model")
        self.most = most

    async def __call__(self, request: web.Request, body: Any) -> web.StreamResponse:
        if request.path == "/api/version":
            return web.json_response({"version": "0.12.11"})
        if request.path == "/api/tags":
            details = {"quantization_level": "Q4_0"}
            return web.json_response({"models": [{"name": "gemma3:4b", "details": details}]})
        tokens = len(self._tokenizer.encode_batch([body["prompt"]])[0])
        answer: dict[str, Any] = {
            "response": "yes",
            "done_reason": "stop",
            "prompt_eval_count": min(tokens, self.most),
            "eval_count": 2,
        }
        if body.get("logprobs"):
            texts = [self._tokenizer.decode_marked([i]) for i in range(5, 25)]
            top = [{"token": t, "logprob": -1.0 - n} for n, t in enumerate(texts)]
            answer["logprobs"] = [{"token": "a", "logprob": -1.0, "top_logprobs": top}]
        if body["stream"]:
            parts = ({"response": letter, "done": False} for letter in answer["response"])
            last = answer | {"response": "", "done": True}
            return await streamed(request, [*parts, last], lines=True)
        return web.json_response(answer)


_GIVEN = {"max_num_seqs": 2, "max_model_len": 1024}


def test_every_request_says_how_long_the_context_is_and_that_the_prompt_is_whole(
    tmp_path: Path,
) -> None:
    said: list[str] = []
    with FakeServer(Ollama(tmp_path)) as server:
        engine = engine_at(server.url, tmp_path, "ollama", said, engine=_GIVEN)
        engine.add(request_of(temperature=0.5))
        [found] = ended(engine)
        engine.close()

    assert said[0].startswith(f"{server.url}: Ollama 0.12.11: gemma3:4b Q4_0 · 2 requests at once")
    assert {body["options"]["num_ctx"] for path, body in server.asked if body} == {1024}
    sent = server.asked[-1][1]
    assert (sent["raw"], sent["options"]["repeat_penalty"]) == (True, 1.0)
    assert (found.text, found.completion_tokens, found.error) == ("yes", 2, None)


def test_a_prompt_that_it_cut_silently_is_an_error_row(tmp_path: Path) -> None:
    ollama = Ollama(tmp_path)
    with FakeServer(ollama) as server:
        engine = engine_at(server.url, tmp_path, "ollama", engine=_GIVEN)
        ollama.most = 2
        engine.add(request_of())
        [found] = ended(engine)
        engine.close()

    assert found.error is not None
    assert "it cut it" in found.error.message


def test_log_probabilities_come_by_the_tokens_texts(tmp_path: Path) -> None:
    with FakeServer(Ollama(tmp_path)) as server:
        engine = engine_at(server.url, tmp_path, "ollama", engine=_GIVEN)
        one = request_of()
        engine.add(Request(1, one.prompt_ids, one.sampling, logprob_ids=(7, 200)))
        [found] = ended(engine)
        engine.close()

    assert found.logprobs == {7: -3.0, 200: -20.0}
