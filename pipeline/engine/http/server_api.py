"""What tells servers apart: how each is asked, and what its answers mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.engine.http.capabilities import Capabilities
from pipeline.engine.http.client import Client, Refused
from pipeline.errors import EndpointUnfit, RowError, RowErrorType
from pipeline.job.engine import EngineSettings
from pipeline.rows.request import Completion, Request

# letters, digits and scripts that tokenizers cut differently
_SAMPLES = (
    "Internationalization costs 1234567.89 EUR; über Straßen, naïveté, 日本語の文章、и русский.",
)
Written = Callable[[int], None]  # hears how many tokens there are of an answer
Decode = Callable[[Sequence[int]], str]
Tokens = Callable[[str], list[int]]  # of a text, without those that mark its beginning


@dataclass(frozen=True)
class Endpoint:
    """One server of a job. ``context``: tokens that a request may have, prompt and answer.

    ``decode``: token ids as text, their marks (``<start_of_turn>``) as well; ``tokens``: back.
    """

    client: Client
    settings: EngineSettings
    context: int
    decode: Decode
    tokens: Tokens
    begin: int | None  # the token that prompts begin with, which servers add by themselves

    def text_of(self, ids: Sequence[int]) -> str:
        """A prompt as the text of which a server makes the same token ids."""
        return self.decode(ids[1:] if ids and ids[0] == self.begin else ids)

    def prompt_ids(self, text: str) -> list[int]:
        """The token ids of a prompt of our own."""
        return ([] if self.begin is None else [self.begin]) + self.tokens(text)

    def samples(self) -> list[tuple[str, list[int]]]:
        """Texts by whose numbers of tokens a tokenizer is told, with our token ids of them."""
        return [(text, self.prompt_ids(text)) for text in _SAMPLES]

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


class ServerApi(Protocol):
    """The HTTP API of one kind of server: how it is asked."""

    async def probe(self) -> Capabilities:
        """What the server can do. Raises EndpointUnfit, EndpointGone, Refused."""

    async def answer(self, request: Request, written: Written | None) -> Completion:
        """``written``: who hears of the tokens as they come, where the server can tell; None: it
        need not. Raises RowError for what it will not do for this request, EndpointGone."""


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


def completion_tokens(counted: object, text: str, request: Request, endpoint: Endpoint) -> int:
    """Of an answer, as the server counted them; where that cannot be right, or it tells none, as
    the job's tokenizer does."""
    if type(counted) is int and 0 <= counted <= request.max_new_tokens + 1:
        return counted
    return len(endpoint.tokens(text))


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
