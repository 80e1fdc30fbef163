"""What an engine is asked, and its answer. Plain data, the same for every engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RowError
from pipeline.job.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Structure:
    """The required form of the completion: a JSON schema (as text), or a regular expression."""

    json_schema: str | None = None
    regex: str | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """A model's scores for n given tokens, each given all tokens before it.

    ``token_ids``: int32 [n]; ``logprobs``: float32 [n], natural logarithms. ``top_ids`` and
    ``top_logprobs``: [n, k], the k most likely tokens at each place, the most likely first.
    """

    token_ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    top_ids: NDArray[np.int32]
    top_logprobs: NDArray[np.float32]


MOST_LOGPROB_IDS = 128  # vLLM's limit for one request (``MAX_LOGPROB_TOKEN_IDS``)


@dataclass(slots=True)
class Request:
    """One prompt, as token ids, and how to continue it.

    ``logprob_ids``: tokens whose log-probabilities are wanted at the only generated position
    (``max_tokens`` is 1), at most ``MOST_LOGPROB_IDS``. ``score_from``: score the prompt's tokens
    from this position (at least 1) on, with the ``top_k`` most likely tokens for each.
    ``shared_tokens``: how many of the prompt's first tokens are expected in the prefix cache,
    because the request admitted before shares them. ``row``: the same number for all requests that
    begin with one row's text, which an engine may compute once.
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
    """The end of a request. If ``error`` is set, the engine refused it, and the rest is empty."""

    request_id: int
    text: str = ""
    completion_tokens: int = 0
    finish_reason: str = ""
    logprobs: Mapping[int, float] = field(default_factory=dict)
    scores: Scores | None = None
    error: RowError | None = None
