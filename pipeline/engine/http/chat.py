"""Servers that take chats alone (`litert-lm serve`): a prompt is taken apart into its turns."""

from __future__ import annotations

import re
from typing import Any

from pipeline.engine.http.capabilities import Capabilities
from pipeline.engine.http.client import Refused
from pipeline.engine.http.concurrency import measured_concurrency
from pipeline.engine.http.server_api import Endpoint, Written, row_error, served_model, told
from pipeline.errors import EndpointUnfit, RowError, RowErrorType
from pipeline.rows.request import Completion, Request

_PATH = "/v1/chat/completions"
_TURN = re.compile(r"<start_of_turn>(user|model)\n(.*?)<end_of_turn>\n", re.DOTALL)
_ANSWER = "<start_of_turn>model\n"
_ROLES = {"user": "user", "model": "assistant"}
_BRIEF = 8  # tokens
_FINISHED = frozenset({"stop", "length"})


class ChatServer:
    """One server of ``/v1/chat/completions``. It puts the model's own template around messages, so
    that what it reads is what was meant only where prompts are chats by that template."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._model = ""

    async def probe(self) -> Capabilities:
        endpoint = self._endpoint
        models = told(await endpoint.client.get("/v1/models"), "data")
        names = [str(told(one, "id")) for one in models]
        self._model = served_model(endpoint.settings, names, endpoint.client.url)
        await self._check_limit()
        given = endpoint.settings.max_num_seqs
        return Capabilities(
            server=endpoint.settings.kind,
            model=self._model,
            concurrency=given or await measured_concurrency(self._ask_briefly),
            given=given is not None,
            context=endpoint.context,
            seed=False,
        )

    async def _check_limit(self) -> None:
        """Raise EndpointUnfit where answers are longer than what they are limited to."""
        counted = [{"role": "user", "content": "Count from 1 to 100."}]
        text = told(await self._ask(counted, _BRIEF, 0.0), "choices", 0, "message", "content")
        tokens = len(self._endpoint.tokens(text if isinstance(text, str) else ""))
        if tokens > 2 * _BRIEF:  # ours may count a few more
            raise EndpointUnfit(
                f"{self._endpoint.client.url} ignores max_tokens: it wrote {tokens} tokens where "
                f"{_BRIEF} were asked for",
                "take a server that heeds it, as llama.cpp's: engine.kind: llama.cpp",
            )

    async def _ask_briefly(self, number: int) -> None:
        await self._ask([{"role": "user", "content": f"{number}. Count."}], _BRIEF, 0.0)

    async def _ask(self, messages: list[dict[str, str]], tokens: int, temperature: float) -> Any:
        return await self._endpoint.client.post(
            _PATH,
            {
                "model": self._model,
                "messages": messages,
                "max_tokens": tokens,
                "temperature": temperature,
            },
        )

    async def answer(
        self,
        request: Request,
        written: Written | None,  # noqa: ARG002 -- it comes at once
    ) -> Completion:
        messages = turns_of(self._endpoint.text_of(request.prompt_ids))
        if messages is None:
            raise RowError(
                RowErrorType.INVALID_ROW,
                "the server takes only chats, and the prompt is not one: give `messages`",
            )
        try:
            answer = await self._ask(messages, request.max_new_tokens, request.sampling.temperature)
            text = told(answer, "choices", 0, "message", "content")
            reason = told(answer, "choices", 0, "finish_reason")
            if not isinstance(text, str) or reason not in _FINISHED:
                raise Refused(200, f"its answer ended with {reason!r}: {str(answer)[:120]}")
        except Refused as e:
            raise row_error(e) from None
        tokens = len(self._endpoint.tokens(text))
        return Completion(request.id, text=text, completion_tokens=tokens, finish_reason=reason)


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
