"""Servers that take chats alone (`litert-lm serve`): a prompt is taken apart into its turns."""

from __future__ import annotations

import re
from typing import Any

from pipeline.engine.http.capabilities import Capabilities
from pipeline.engine.http.server_api import Endpoint, ServerApi, served_model, told
from pipeline.errors import EndpointUnfit, RowError, RowErrorType
from pipeline.rows.request import Request

_TURN = re.compile(r"<start_of_turn>(user|model)\n(.*?)<end_of_turn>\n", re.DOTALL)
_ANSWER = "<start_of_turn>model\n"
_ROLES = {"user": "user", "model": "assistant"}
_BRIEF = 8  # tokens


class ChatServer(ServerApi):
    """One server of ``/v1/chat/completions``. It puts the model's own template around messages, so
    that what it reads is what was meant only where prompts are chats by that template."""

    _path = "/v1/chat/completions"

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._streams = False

    async def probe(self) -> Capabilities:
        endpoint = self._endpoint
        models = told(await endpoint.client.get("/v1/models"), "data")
        names = [str(told(one, "id")) for one in models]
        self._model = served_model(endpoint.settings, names, endpoint.client.url)
        await self._check_limit()
        return Capabilities(
            server=endpoint.settings.kind,
            model=self._model,
            concurrency=await self._concurrency(),
            given=self._given,
            context=endpoint.context,
            seed=False,
        )

    async def _check_limit(self) -> None:
        """Raise EndpointUnfit where answers are longer than what they are limited to."""
        text, *_ = self._read(await self._ask("Count from 1 to 100."))
        tokens = len(self._endpoint.tokenizer.encode_plain(text if isinstance(text, str) else ""))
        if tokens > 2 * _BRIEF:  # ours may count a few more
            raise EndpointUnfit(
                f"{self._endpoint.client.url} ignores max_tokens: it wrote {tokens} tokens where "
                f"{_BRIEF} were asked for",
                "take a server that heeds it, as llama.cpp's: engine.kind: llama.cpp",
            )

    async def _ask_briefly(self, number: int) -> None:
        await self._ask(f"{number}. Count.")

    async def _ask(self, content: str) -> Any:
        body = self._question([{"role": "user", "content": content}], _BRIEF, 0.0)
        return await self._endpoint.client.post(self._path, body)

    def _question(
        self, messages: list[dict[str, str]], tokens: int, temperature: float
    ) -> dict[str, Any]:
        limits = {"max_tokens": tokens, "temperature": temperature}
        return {"model": self._model, "messages": messages, **limits}

    def _body(self, request: Request) -> dict[str, Any]:
        messages = turns_of(self._endpoint.text_of(request.prompt_ids))
        if messages is None:
            raise RowError(
                RowErrorType.INVALID_ROW,
                "the server takes only chats, and the prompt is not one: give `messages`",
            )
        return self._question(messages, request.max_new_tokens, request.sampling.temperature)

    def _check_prompt(self, answer: Any, request: Request) -> None:
        """It tells no numbers of tokens."""

    def _read(self, answer: Any) -> tuple[Any, Any, Any]:
        text = told(answer, "choices", 0, "message", "content")
        return text, told(answer, "choices", 0, "finish_reason"), None


def turns_of(text: str) -> list[dict[str, str]] | None:
    """The messages of which Gemma's template made ``text``; None where it did not."""
    if not text.endswith(_ANSWER):
        return None
    messages, end = [], 0
    for turn in _TURN.finditer(text):
        if turn.start() != end:
            return None
        messages.append({"role": _ROLES[turn[1]], "content": turn[2]})
        end = turn.end()
    return messages if messages and end == len(text) - len(_ANSWER) else None
