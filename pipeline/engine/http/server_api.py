"""What tells servers apart: how each is asked, and what its answers mean."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pipeline.engine.http.capabilities import Capabilities
from pipeline.engine.http.client import Client, Refused
from pipeline.engine.http.pieces import Pieces
from pipeline.errors import EndpointUnfit, RowError, RowErrorType
from pipeline.job.engine import EngineSettings
from pipeline.model.tokenizer import Tokenizer
from pipeline.rows.request import Completion, Request

# letters, digits and scripts that tokenizers cut differently
_SAMPLE = (
    "Internationalization costs 1234567.89 EUR; über Straßen, naïveté, 日本語の文章、и русский."
)
_MOST_AT_ONCE = 64
_GAIN = 1.15  # by which twice as many at once must be faster for a server that works on them
Written = Callable[[int], None]  # hears how many tokens there are of an answer


@dataclass(frozen=True)
class Endpoint:
    """One server of a job. ``context``: tokens that a request may have, prompt and answer.
    ``tokenizer``: of the job's model."""

    client: Client
    settings: EngineSettings
    context: int
    tokenizer: Tokenizer

    def text_of(self, ids: Sequence[int]) -> str:
        """A prompt as the text of which a server makes the same token ids: it adds by itself what
        prompts begin with."""
        head = self.tokenizer.head
        return self.tokenizer.decode_marked(ids[len(head) :] if ids[: len(head)] == head else ids)

    def prompt_ids(self, text: str) -> list[int]:
        """The token ids of a prompt of our own."""
        return [*self.tokenizer.head, *self.tokenizer.encode_plain(text)]

    def sample(self) -> tuple[str, list[int]]:
        """A text by whose number of tokens a tokenizer is told, with our token ids of it."""
        return _SAMPLE, self.prompt_ids(_SAMPLE)

    def check_tokens(self, counted: object, ids: Sequence[int], model: str) -> None:
        """Raise EndpointUnfit where a server counts other tokens of a sample than ``ids``."""
        if isinstance(counted, int) and abs(counted - len(ids)) > 1:
            raise other_model(self.client.url, model, f"it counts {counted} tokens", len(ids))


def other_model(url: str, model: str, differs: str, tokens: int) -> EndpointUnfit:
    """``differs``: what it makes of a sample of which the job's model makes ``tokens`` tokens."""
    return EndpointUnfit(
        f"{url}: {model} is another model than the job's: {differs} where the job's model has "
        f"{tokens}",
        "serve the job's model there, or name that one in the job: model:",
    )


class ServerApi(ABC):
    """The HTTP API of one kind of server: how it is asked, and what its answers mean."""

    _path: ClassVar[str]  # where completions are asked for
    _stream: ClassVar[Mapping[str, Any]] = {"stream": True}  # what a request for pieces adds
    _logprobs_at: ClassVar[tuple[str | int, ...]] = ()  # within an answer

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._given = endpoint.settings.max_num_seqs is not None
        self._model = ""
        self._streams = True

    @abstractmethod
    async def probe(self) -> Capabilities:
        """What the server can do. Raises EndpointUnfit, EndpointGone, Refused."""

    @abstractmethod
    def _body(self, request: Request) -> dict[str, Any]:
        """What is sent for ``request``. Raises RowError."""

    def _pieces(self) -> Pieces:
        """What makes one answer of a stream; only servers that stream are asked (``_streams``)."""
        raise NotImplementedError

    @abstractmethod
    def _read(self, answer: Any) -> tuple[Any, Any, Any]:
        """Its text, why it ended ("stop" or "length") and how many tokens it has, as far as the
        server tells. Raises Refused."""

    @abstractmethod
    def _check_prompt(self, answer: Any, request: Request) -> None:
        """Raise RowError or Refused where another prompt was read than was sent."""

    def _pairs(self, found: Any, wanted: Sequence[int]) -> Iterable[tuple[int, Any]]:
        """The likeliest tokens in what stands at ``_logprobs_at``, (id, log-probability); only
        asked of servers whose ``probe`` says that they tell them."""
        raise NotImplementedError

    async def _ask_briefly(self, number: int) -> None:
        """Have a few tokens written, for a prompt that is another one for each ``number``; only
        of servers that do not say how many requests they work on at once."""
        raise NotImplementedError

    async def answer(self, request: Request, written: Written | None) -> Completion:
        """``written``: who hears of the tokens as they come, where the server can tell; None: it
        need not. Raises RowError for what it will not do for this request, EndpointGone."""
        client, body = self._endpoint.client, self._body(request)
        try:
            if request.logprob_ids or written is None or not self._streams:
                answer = await client.post(self._path, body)
            else:
                pieces = self._pieces
                answer = await client.stream(self._path, {**body, **self._stream}, pieces, written)
            self._check_prompt(answer, request)
            if request.logprob_ids:
                top = self._likeliest(answer, request.logprob_ids)
                found = known_or_bound(top, request.logprob_ids)
                return Completion(request.id, completion_tokens=1, logprobs=found)
            text, reason, counted = self._read(answer)
            if not isinstance(text, str) or reason not in ("stop", "length"):
                raise Refused(200, f"its answer ended with {reason!r}: {str(answer)[:120]}")
        except Refused as e:
            raise row_error(e) from None
        # where the server's count cannot be right, or it tells none, the job's tokenizer counts
        if type(counted) is not int or not 0 <= counted <= request.max_new_tokens + 1:
            counted = len(self._endpoint.tokenizer.encode_plain(text))
        return Completion(request.id, text=text, completion_tokens=counted, finish_reason=reason)

    def _likeliest(self, answer: Any, wanted: Sequence[int]) -> list[tuple[int, float]]:
        """The likeliest first tokens that it tells, (id, log-probability). Raises Refused."""
        found = told(answer, *self._logprobs_at)
        try:
            return [(token, float(value)) for token, value in self._pairs(found, wanted)]
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            raise Refused(200, f"its log-probabilities are malformed: {str(found)[:120]}") from None

    def _texts(self, wanted: Sequence[int]) -> dict[str, int]:
        """The tokens ``wanted`` by their texts, for servers that know tokens by these."""
        return {self._endpoint.tokenizer.decode_marked([token]): token for token in wanted}

    async def _concurrency(self) -> int:
        """How many requests it works on at once: as many as the job says, else it is measured."""
        given = self._endpoint.settings.max_num_seqs
        return given or await measured_concurrency(self._ask_briefly)


def row_error(e: Refused) -> RowError:
    """Why one request was refused, as its row's error."""
    text = str(e)
    too_long = any(w in text.lower() for w in ("context size", "context length", "context window"))
    kind = RowErrorType.PROMPT_TOO_LONG if too_long else RowErrorType.ENGINE_FAILURE
    return RowError(kind, f"the server: {text}", attempts=1)


def check_count(counted: object, request: Request) -> None:
    """Raise RowError where a server says that it read another number of prompt tokens than it was
    given: it has cut the prompt, or its tokens are others. None: it does not say.

    One more or less is a mark of the beginning, which some count and some do not.
    """
    sent = len(request.prompt_ids)
    if counted is None:
        return
    if not isinstance(counted, int) or isinstance(counted, bool):
        said = f"the server counted {counted!r} prompt tokens"
        raise RowError(RowErrorType.ENGINE_FAILURE, said, attempts=1)
    if counted < sent - 1:
        raise RowError(
            RowErrorType.PROMPT_TOO_LONG,
            f"the server read {counted} of the prompt's {sent} tokens: it cut it",
            attempts=1,
        )
    if counted > sent + 1:
        raise RowError(
            RowErrorType.ENGINE_FAILURE,
            f"the server read {counted} prompt tokens where {sent} were given: "
            "its model has other tokens",
            attempts=1,
        )


def told(answer: Any, *path: str | int) -> Any:
    """The value at ``path`` of a server's answer. Raises Refused where it is not there."""
    value = answer
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            where = ".".join(map(str, path))
            raise Refused(200, f"its answer has no {where}: {str(answer)[:120]}") from None
    return value


def known_or_bound(top: Sequence[tuple[int, float]], wanted: Sequence[int]) -> dict[int, float]:
    """Log-probabilities of the tokens ``wanted`` by the likeliest ones that a server told, (id,
    log-probability). One that is not among them is less likely than all of these: it gets the
    least of them, which is a bound from above, never a probability of 0."""
    if not top:
        raise Refused(200, "it told no log-probabilities")
    found = dict(top)
    least = min(logprob for _, logprob in top)
    return {token: found.get(token, least) for token in wanted}


def served_model(settings: EngineSettings, names: Sequence[str], url: str) -> str:
    """The model of a server that the job means: the one it names, or the only one there. Raises
    EndpointUnfit."""
    if not names:
        raise EndpointUnfit(f"{url} serves no model", "load one there first")
    if settings.served_model is None:
        if len(names) == 1:
            return names[0]
        shown = ", ".join(sorted(names)[:8])
        raise EndpointUnfit(
            f"{url} serves {len(names)} models: {shown}", "say which: engine.served_model: NAME"
        )
    if settings.served_model not in names:
        shown = ", ".join(sorted(names)[:8])
        raise EndpointUnfit(f"{url} does not serve {settings.served_model}; it serves {shown}")
    return settings.served_model


async def measured_concurrency(ask: Callable[[int], Awaitable[None]]) -> int:
    """The number at once from which on more would only wait there. ``ask(n)`` sends a short
    request, every time another one.

    Twice as many are tried until they are not answered in clearly less than twice the time.
    """
    asked = iter(range(1 << 30))
    await ask(next(asked))  # whatever is loaded at the first one
    number, rate = 1, 0.0
    while True:
        began = time.monotonic()
        await asyncio.gather(*(ask(next(asked)) for _ in range(number)))
        found = number / max(1e-6, time.monotonic() - began)
        if found < _GAIN * rate:
            return number // 2
        if number >= _MOST_AT_ONCE:
            return number
        number, rate = number * 2, found
