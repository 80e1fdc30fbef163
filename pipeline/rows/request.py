"""What an engine is asked, and what it answers. Plain data, the same for every engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RowError
from pipeline.job.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Structure:
    """A shape that the completion must have: a JSON schema (its text), or a regular expression."""

    json_schema: str | None = None
    regex: str | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """What a model thinks of n given tokens, each given all tokens before it.

    ``token_ids``: int32 [n]; ``logprobs``: float32 [n], natural logarithms. ``top_ids`` and
    ``top_logprobs``: [n, k], the k likeliest tokens in place of each, the likeliest first.
    """

    token_ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    top_ids: NDArray[np.int32]
    top_logprobs: NDArray[np.float32]


MOST_LOGPROB_IDS = 128  # vLLM's limit for one request (``MAX_LOGPROB_TOKEN_IDS``)


@dataclass(slots=True)
class Request:
    """One prompt, as token ids, and how to continue it.

    ``logprob_ids``: tokens whose log-probabilities are wanted at the one position that is then
    generated (``max_tokens`` is 1), at most ``MOST_LOGPROB_IDS``. ``score_from``: the prompt's
    tokens from this position (at least 1) on are to be scored, with the ``top_k`` likeliest beside
    each. ``shared_tokens``: how many of the prompt's first tokens the request admitted before it
    is expected to share, so that a prefix cache holds them. ``row``: the same number for all
    requests that begin with one row's text, which an engine may compute once.
    """

    id: int
    prompt_ids: list[int]
    sampling: Sampling
    structure: Structure | None = None
    logprob_ids: tuple[int, ...] = ()
    score_from: int | None = None
    top_k: int = 0
    shared_tokens: int = 0
    row: int | None = None

    @property
    def max_new_tokens(self) -> int:
        one = self.logprob_ids or self.score_from is not None
        return 1 if one else self.sampling.max_tokens


@dataclass(slots=True)
class Completion:
    """The end of a request. ``error`` set: the engine refused it, the rest is empty."""

    request_id: int
    text: str = ""
    completion_tokens: int = 0
    finish_reason: str = ""
    logprobs: Mapping[int, float] = field(default_factory=dict)
    scores: Scores | None = None
    error: RowError | None = None
