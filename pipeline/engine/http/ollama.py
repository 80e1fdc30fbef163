"""Ollama by its own API (``docs/api.md`` of Ollama): the one by which the context can be set, and
which tells how many tokens of a prompt were read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.engine.http.capabilities import Capabilities
from pipeline.engine.http.held_schema import held_schema
from pipeline.engine.http.pieces import NamedPieces
from pipeline.engine.http.server_api import ServerApi, check_count, served_model, told
from pipeline.rows.request import Request

_TOP = 20  # its limit


class Ollama(ServerApi):
    """One Ollama server. Prompts are cut there silently where they are longer than its context
    (ollama #4079): the context goes along with every request, and its count is compared."""

    _path = "/api/generate"
    _logprobs_at = ("logprobs", 0, "top_logprobs")

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
        prompt, ids = endpoint.sample()
        answer = await self._ask(prompt, 1)
        endpoint.check_tokens(answer.get("prompt_eval_count"), ids, self._model)
        answer = await self._ask("Count: 1, 2,", 1, logprobs=True, top_logprobs=_TOP)
        return Capabilities(
            server=f"Ollama {version}".strip(),
            model=f"{self._model} {details.get('quantization_level', '')}".strip(),
            concurrency=await self._concurrency(),
            given=self._given,
            context=endpoint.context,
            top_logprobs=_TOP if answer.get("logprobs") else 0,
            json_schema=True,
            streams=True,
            sampling=frozenset({"top_p", "top_k", "min_p", "stop"}),
        )

    async def _ask(self, prompt: str, tokens: int, **more: Any) -> Any:
        body = self._question({"prompt": prompt, **more}, {"num_predict": tokens})
        return await self._endpoint.client.post(self._path, body)

    async def _ask_briefly(self, number: int) -> None:
        await self._ask(f"{number}. Count: 1, 2,", 8)

    def _question(self, body: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
        options = {"num_ctx": self._endpoint.context, "temperature": 0.0} | options
        return {"model": self._model, "raw": True, "stream": False, "options": options} | body

    def _body(self, request: Request) -> dict[str, Any]:
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
            return self._question(body | {"logprobs": True, "top_logprobs": _TOP}, options)
        options["temperature"] = sampling.temperature
        if sampling.seed is not None:
            options["seed"] = sampling.seed % (1 << 31)
        if sampling.stop:
            stop = sampling.stop
            options["stop"] = [stop] if isinstance(stop, str) else list(stop)
        if request.structure is not None and request.structure.json_schema is not None:
            body["format"] = held_schema(request.structure)
        return self._question(body, options)

    def _pieces(self) -> NamedPieces:
        return NamedPieces("response", "done")

    def _check_prompt(self, answer: Any, request: Request) -> None:
        check_count(answer.get("prompt_eval_count"), request)

    def _pairs(self, found: Any, wanted: Sequence[int]) -> Iterable[tuple[int, Any]]:
        texts = self._texts(wanted)
        return [(texts.get(one["token"], -1), one["logprob"]) for one in found]

    def _read(self, answer: Any) -> tuple[Any, Any, Any]:
        return told(answer, "response"), answer.get("done_reason"), answer.get("eval_count")
