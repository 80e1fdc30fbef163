"""Ollama by its own API (``docs/api.md`` of Ollama): the one by which the context can be set, and
which tells how many tokens of a prompt were read."""

from __future__ import annotations

from typing import Any

from pipeline.engine.http.capabilities import Capabilities
from pipeline.engine.http.client import Refused
from pipeline.engine.http.concurrency import measured_concurrency
from pipeline.engine.http.held_schema import held_schema
from pipeline.engine.http.pieces import NamedPieces
from pipeline.engine.http.server_api import (
    Endpoint,
    Written,
    check_count,
    completion_tokens,
    known_or_bound,
    row_error,
    served_model,
    told,
)
from pipeline.rows.request import Completion, Request

_PATH = "/api/generate"
_TOP = 20  # its limit
_FINISHED = {"stop": "stop", "length": "length"}


class Ollama:
    """One Ollama server. Prompts are cut there silently where they are longer than its context
    (ollama #4079): the context goes along with every request, and its count is compared."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._model = ""
        self._logprobs = False

    async def probe(self) -> Capabilities:
        endpoint = self._endpoint
        version = str((await endpoint.client.get("/api/version")).get("version", ""))
        tags = told(await endpoint.client.get("/api/tags"), "models")
        names = {str(told(one, "name")): one for one in tags}
        wanted = endpoint.settings.served_model
        if wanted is not None and f"{wanted}:latest" in names:
            names[wanted] = names[f"{wanted}:latest"]
        self._model = served_model(endpoint.settings, list(names), endpoint.client.url)
        details = names[self._model].get("details") or {}
        for prompt, ids in endpoint.samples():
            answer = await self._ask(prompt, 1)
            endpoint.check_tokens(answer.get("prompt_eval_count"), ids, self._model)
        answer = await self._ask("Count: 1, 2,", 1, logprobs=True, top_logprobs=_TOP)
        self._logprobs = bool(answer.get("logprobs"))
        given = endpoint.settings.max_num_seqs
        return Capabilities(
            server=f"Ollama {version}".strip(),
            model=f"{self._model} {details.get('quantization_level', '')}".strip(),
            concurrency=given or await measured_concurrency(self._ask_briefly),
            given=given is not None,
            context=endpoint.context,
            top_logprobs=_TOP if self._logprobs else 0,
            json_schema=True,
            streams=True,
            sampling=frozenset({"top_p", "top_k", "min_p", "stop"}),
        )

    async def _ask(self, prompt: str, tokens: int, **more: Any) -> Any:
        return await self._send({"prompt": prompt, **more}, {"num_predict": tokens})

    async def _ask_briefly(self, number: int) -> None:
        await self._ask(f"{number}. Count: 1, 2,", 8)

    async def _send(self, body: dict[str, Any], options: dict[str, Any]) -> Any:
        return await self._endpoint.client.post(_PATH, self._whole(body, options))

    def _whole(
        self, body: dict[str, Any], options: dict[str, Any], *, stream: bool = False
    ) -> dict[str, Any]:
        options = {"num_ctx": self._endpoint.context, "temperature": 0.0} | options
        return {"model": self._model, "raw": True, "stream": stream, "options": options} | body

    async def answer(self, request: Request, written: Written | None) -> Completion:
        question = self._question(request)
        try:
            if request.logprob_ids or written is None:
                answer = await self._send(*question)
            else:
                body = self._whole(*question, stream=True)
                answer = await self._endpoint.client.stream(_PATH, body, _pieces, written)
            check_count(answer.get("prompt_eval_count"), request)
            if request.logprob_ids:
                top = self._likeliest(answer, request.logprob_ids)
                found = known_or_bound(top, request.logprob_ids)
                return Completion(request.id, completion_tokens=1, logprobs=found)
            return self._completion(answer, request)
        except Refused as e:
            raise row_error(e) from None

    def _question(self, request: Request) -> tuple[dict[str, Any], dict[str, Any]]:
        """What is asked, and the options that go with it."""
        sampling = request.sampling
        body: dict[str, Any] = {"prompt": self._endpoint.text_of(request.prompt_ids)}
        options: dict[str, Any] = {
            "num_predict": request.max_new_tokens,
            "repeat_penalty": 1.0,  # its own default changes answers
            "top_k": max(0, sampling.top_k),
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
        }
        if request.logprob_ids:
            return body | {"logprobs": True, "top_logprobs": _TOP}, options
        options["temperature"] = sampling.temperature
        if sampling.seed is not None:
            options["seed"] = sampling.seed % (1 << 31)
        if sampling.stop:
            stop = sampling.stop
            options["stop"] = [stop] if isinstance(stop, str) else list(stop)
        if request.structure is not None and request.structure.json_schema is not None:
            body["format"] = held_schema(request.structure)
        return body, options

    def _likeliest(self, answer: Any, wanted: tuple[int, ...]) -> list[tuple[int, float]]:
        texts = {self._endpoint.decode([token]): token for token in wanted}
        entries = told(answer, "logprobs", 0, "top_logprobs")
        try:
            return [(texts.get(one["token"], -1), float(one["logprob"])) for one in entries]
        except (KeyError, TypeError, ValueError):
            raise Refused(
                200, f"its log-probabilities are malformed: {str(entries)[:120]}"
            ) from None

    def _completion(self, answer: Any, request: Request) -> Completion:
        text, reason = told(answer, "response"), answer.get("done_reason")
        if not isinstance(text, str) or reason not in _FINISHED:
            raise Refused(200, f"its answer ended with {reason!r}: {str(answer)[:120]}")
        tokens = completion_tokens(answer.get("eval_count"), text, request, self._endpoint)
        return Completion(
            request.id, text=text, completion_tokens=tokens, finish_reason=_FINISHED[reason]
        )


def _pieces() -> NamedPieces:
    return NamedPieces("response", "done")
