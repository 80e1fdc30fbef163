"""What an engine is asked, and what it answers. Plain data, the same for every engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.errors import RowError
from pipeline.spec.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Structure:
    """A shape that the completion must have: a JSON schema (its text), or a regular expression."""

    json_schema: str | None = None
    regex: str | None = None


@dataclass(slots=True)
class Request:
    """One prompt, as token ids, and how to continue it.

    ``logprob_ids``: tokens whose log-probabilities are wanted at the one position that is then
    generated (``max_tokens`` is 1). ``shared_tokens``: how many of the prompt's first tokens the
    request admitted before it is expected to share, so that a prefix cache holds them.
    """

    id: int
    prompt_ids: list[int]
    sampling: Sampling
    structure: Structure | None = None
    logprob_ids: tuple[int, ...] = ()
    shared_tokens: int = 0

    @property
    def max_new_tokens(self) -> int:
        return 1 if self.logprob_ids else self.sampling.max_tokens


@dataclass(slots=True)
class Completion:
    """The end of a request. ``error`` set: the engine refused it, the rest is empty."""

    request_id: int
    text: str = ""
    completion_tokens: int = 0
    finish_reason: str = ""
    logprobs: Mapping[int, float] = field(default_factory=dict)
    error: RowError | None = None
