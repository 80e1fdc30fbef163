"""Servers that speak OpenAI's ``/v1/completions``: `vllm serve`, LM Studio, mlx_lm.server and
others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from pipeline.engine.http.capabilities import Capabilities
from pipeline.engine.http.client import Refused
from pipeline.engine.http.held_schema import held_schema
from pipeline.engine.http.pieces import Pieces
from pipeline.engine.http.server_api import Endpoint, ServerApi, check_count, served_model, told
from pipeline.errors import EndpointGone
from pipeline.rows.request import Request, Structure

_PROBE = "Count: 1, 2, 3,"
_MOST_LOGPROBS = (20, 10, 5, 1)  # what servers tell at most, tried from the most on
_SCHEMA = {
    "type": "object",
    "properties": {"answer": {"enum": ["rackmill"]}},
    "required": ["answer"],
    "additionalProperties": False,
}
_REGEX = "zq[0-9]"
_VLLM_SAMPLING = frozenset(
    {"top_p", "top_k", "min_p", "stop", "stop_token_ids", "ignore_eos", "min_tokens"}
    | {"presence_penalty", "frequency_penalty", "repetition_penalty", "bad_words"}
    | {"include_stop_str_in_output"}
)
_OPENAI_SAMPLING = frozenset({"top_p", "stop"})


class OpenAiServer(ServerApi):
    """One server that completes texts. What it can do is tried: OpenAI's interface has no word
    for it."""

    _path = "/v1/completions"
    _stream: ClassVar = {"stream": True, "stream_options": {"include_usage": True}}
    _logprobs_at = ("choices", 0, "logprobs")

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._vllm = False
        self._token_ids = False
        self._logprobs: dict[str, Any] = {}  # how they are asked for
        self._schema_as: str | None = None  # the key by which it holds answers to a schema

    async def probe(self) -> Capabilities:
        endpoint = self._endpoint
        models = told(await endpoint.client.get("/v1/models"), "data")
        if not isinstance(models, list):
            raise Refused(200, f"its models are no list: {str(models)[:80]}")
        by_name = {str(told(one, "id")): one for one in models}
        self._model = served_model(endpoint.settings, list(by_name), endpoint.client.url)
        entry = by_name[self._model]
        self._vllm = str(entry.get("owned_by")) == "vllm"
        self._token_ids = self._vllm
        prompt, ids = endpoint.sample()
        counted = _usage(await self._ask(prompt, 1), "prompt_tokens")
        endpoint.check_tokens(counted, ids, self._model)
        most_logprobs = await self._most_logprobs()
        self._streams = await self._tells_as_it_writes()
        regex = self._vllm and await self._holds({"structured_outputs": {"regex": _REGEX}}, "zq")
        if await self._holds(_as_response_format(_SCHEMA), "rackmill"):
            self._schema_as = "response_format"
        elif self._vllm and await self._holds(
            {"structured_outputs": {"json": _SCHEMA}}, "rackmill"
        ):
            self._schema_as = "structured_outputs"
        return Capabilities(
            server=str(entry.get("owned_by") or "an OpenAI-compatible server"),
            model=self._model,
            concurrency=await self._concurrency(),
            given=self._given,
            context=_context_of(entry) or endpoint.context,
            token_ids=self._token_ids,
            top_logprobs=most_logprobs,
            json_schema=self._schema_as is not None,
            regex=regex,
            streams=self._streams,
            seed=await self._seeds(),
            sampling=_VLLM_SAMPLING if self._vllm else _OPENAI_SAMPLING,
        )

    def _prompt(self, ids: list[int]) -> list[int] | str:
        return ids if self._token_ids else self._endpoint.text_of(ids)

    def _body(self, request: Request) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self._model,
            "prompt": self._prompt(request.prompt_ids),
            "max_tokens": request.max_new_tokens,
        }
        if request.logprob_ids:
            tokens = {"return_tokens_as_token_ids": True} if self._vllm else {}
            return body | {"temperature": 0.0} | self._logprobs | tokens
        given = sampling.as_vllm()
        body |= {k: v for k, v in given.items() if k not in ("max_tokens", "skip_special_tokens")}
        if self._vllm and not sampling.skip_special_tokens:
            body["skip_special_tokens"] = False
        return body if request.structure is None else body | self._shape(request.structure)

    def _shape(self, structure: Structure) -> dict[str, Any]:
        if structure.regex is not None:
            return {"structured_outputs": {"regex": structure.regex}}
        schema = held_schema(structure)
        if self._schema_as == "structured_outputs":
            return {"structured_outputs": {"json": schema}}
        return _as_response_format(schema)

    def _pieces(self) -> Pieces:
        return _Choice()

    def _check_prompt(self, answer: Any, request: Request) -> None:
        check_count(_usage(answer, "prompt_tokens"), request)

    def _read(self, answer: Any) -> tuple[Any, Any, Any]:
        text, reason = (told(answer, "choices", 0, key) for key in ("text", "finish_reason"))
        return text, reason, _usage(answer, "completion_tokens")

    def _pairs(self, found: Any, wanted: Sequence[int]) -> Iterable[tuple[int, Any]]:
        """By any of the shapes in use."""
        if found.get("content"):  # as in chats
            entries = found["content"][0]["top_logprobs"]
            pairs = [(one.get("id", one["token"]), one["logprob"]) for one in entries]
        elif isinstance(first := found["top_logprobs"][0], Mapping):
            pairs = list(first.items())
        else:  # mlx_lm's
            pairs = [(one.get("id", one.get("token")), one["logprob"]) for one in first]
        texts = self._texts(wanted)
        return [(_token_of(name, texts), value) for name, value in pairs]

    # what it can do, tried

    async def _ask(self, prompt: str, tokens: int, **more: Any) -> Any:
        ids = self._endpoint.prompt_ids(prompt)
        body = {"model": self._model, "prompt": self._prompt(ids), "max_tokens": tokens}
        return await self._endpoint.client.post(self._path, body | {"temperature": 0.0} | more)

    async def _ask_briefly(self, number: int) -> None:
        await self._ask(f"{number}. {_PROBE}", 8)

    async def _most_logprobs(self) -> int:
        # OpenAI's way for completions, and that for chats, which mlx_lm's server has for both
        ways: list[tuple[int, dict[str, Any]]] = [(n, {"logprobs": n}) for n in _MOST_LOGPROBS]
        ways += [(n, {"logprobs": True, "top_logprobs": n}) for n in _MOST_LOGPROBS]
        for number, asks in ways:
            with suppress(Refused):
                if self._likeliest(await self._ask(_PROBE, 1, **asks), ()):
                    self._logprobs = asks
                    return number
        return 0

    async def _tells_as_it_writes(self) -> bool:
        """Whether its answers come in pieces, and with their counts as else."""
        heard: list[int] = []
        ids = self._endpoint.prompt_ids(_PROBE)
        body = {"model": self._model, "prompt": self._prompt(ids), "max_tokens": 4}
        try:
            await self._endpoint.client.stream(
                self._path, body | self._stream, _Choice, heard.append
            )
        except (Refused, EndpointGone):  # some close the connection at what they do not know
            return False
        return bool(heard)

    async def _holds(self, shape: dict[str, Any], wanted: str) -> bool:
        """Whether it answers in a shape that no model would take by itself."""
        try:
            answer = await self._ask(_PROBE, 24, **shape)
            return wanted in str(told(answer, "choices", 0, "text"))
        except Refused:
            return False

    async def _seeds(self) -> bool:
        """Whether equal seeds draw alike, and others otherwise."""
        drawn = [
            str(told(answer, "choices", 0, "text"))
            for seed in (1, 1, 2, 3)
            for answer in [await self._ask("A list of words:", 12, temperature=2.0, seed=seed)]
        ]
        return drawn[0] == drawn[1] and len(set(drawn)) > 1


class _Choice:
    """The pieces of one answer: each adds to the text, the last of them says why it ended, and one
    more, without a choice, how many tokens there were."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._reason: Any = None
        self._usage: Any = None

    def take(self, piece: Mapping[str, Any]) -> int:
        self._usage = piece.get("usage") or self._usage
        choices = piece.get("choices")
        if isinstance(choices, list) and choices:
            text = told(choices[0], "text")
            if text:
                self._texts.append(str(text))
            self._reason = choices[0].get("finish_reason") or self._reason
        return len(self._texts)

    @property
    def answer(self) -> dict[str, Any] | None:
        if self._reason is None:
            return None
        choice = {"text": "".join(self._texts), "finish_reason": self._reason}
        return {"choices": [choice], "usage": self._usage}


def _token_of(name: Any, texts: Mapping[str, int]) -> int:
    """The id of a token that a server calls so; -1 for one that is not asked for."""
    if isinstance(name, int):
        return name
    text = str(name)
    if text.startswith("token_id:"):
        return int(text.removeprefix("token_id:"))
    return texts.get(text, -1)


def _as_response_format(schema: Any) -> dict[str, Any]:
    shape = {"name": "answer", "strict": True, "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": shape}}


def _usage(answer: Any, name: str) -> Any:
    usage = answer.get("usage")
    return usage.get(name) if isinstance(usage, dict) else None


def _context_of(entry: Mapping[str, Any]) -> int:
    """Tokens of the context that a server says its model has; 0 where it does not."""
    meta = entry.get("meta")
    places = (
        entry.get("max_model_len"),
        entry.get("loaded_context_length"),
        entry.get("max_context_length"),
        meta.get("n_ctx") if isinstance(meta, dict) else None,
    )
    return next((one for one in places if isinstance(one, int) and one > 0), 0)
