"""Sampling parameters under vLLM's own names, checked without loading vLLM."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from pipeline.errors import RowError, RowErrorType, did_you_mean
from pipeline.job.file.wording import in_words, shown
from pipeline.job.section import Section

DEFAULT_MAX_TOKENS = 256
SAMPLING_COLUMN = "sampling_params"
_MOST = 1 << 30  # of any number of tokens: contexts are far smaller
_MOST_WORDS, _LONGEST_WORD = 256, 1024  # searched for after every token of every answer
# With min_tokens vLLM's model runner on GPUs takes 128, including the model's own; one more ends
# the engine.
_MOST_STOP_IDS = 120
_MOST_CHARACTERS = 1 << 18  # of a row's parameters as JSON
MOST_ANSWERS = 256  # of a row

_Word = Annotated[str, Field(min_length=1, max_length=_LONGEST_WORD)]
_Words = Annotated[tuple[_Word, ...], Field(max_length=_MOST_WORDS)]
_TokenId = Annotated[int, Field(ge=0, le=_MOST)]


class Sampling(Section):
    """vLLM's ``SamplingParams``. ``n``: answers of a row, each drawn separately.

    Two defaults differ from vLLM's: ``temperature`` 0 (a second run should give the same dataset)
    and ``max_tokens`` 256 (16 cuts nearly every answer). Units: tokens. A job's ``seed`` gives
    every row its own (see ``prompt.seed``); a seed in a row's ``sampling_params`` is used as it
    is; without either, draws are not repeatable.
    """

    n: Annotated[int, Field(ge=1, le=MOST_ANSWERS)] = 1
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    max_tokens: Annotated[int, Field(ge=1, le=_MOST)] = DEFAULT_MAX_TOKENS
    min_tokens: Annotated[int, Field(ge=0, le=_MOST)] = 0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=-1, le=_MOST)] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: _Word | _Words = ()
    stop_token_ids: Annotated[tuple[_TokenId, ...], Field(max_length=_MOST_STOP_IDS)] = ()
    ignore_eos: bool = False
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    bad_words: _Words = ()
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True

    @model_validator(mode="after")
    def _least_is_not_above_most(self) -> Self:
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens {self.min_tokens} is above max_tokens {self.max_tokens}")
        return self

    @model_validator(mode="after")
    def _several_answers_are_drawn(self) -> Self:
        if self.n > 1 and self.temperature == 0:
            raise ValueError(
                f"at temperature 0 all {self.n} answers would be the same: give a temperature, "
                "say 1.0, or leave n away"
            )
        return self

    def overridden_by(self, value: object) -> Sampling:
        """These parameters, overridden by those of one row's ``sampling_params``.

        ``value``: a mapping (a struct column; null members are ignored) or JSON text of one.
        Raises RowError (InvalidSampling) if it is neither, or if names or values are wrong.
        """
        if value is None:
            return self
        try:
            if isinstance(value, str) and len(value) > _MOST_CHARACTERS:
                raise TypeError(f"{len(value)} characters are too many")
            given = json.loads(value) if isinstance(value, str) else value
            if not isinstance(given, Mapping):
                raise TypeError(f"expected an object, got {type(given).__name__}")
            changes = {str(k): v for k, v in given.items() if v is not None}
            if changes.get("n", self.n) != self.n:
                raise ValueError("how many answers a row has is the job's: sampling.n")
            return Sampling.model_validate(self.model_dump() | changes)
        except ValidationError as e:
            raise RowError(RowErrorType.INVALID_SAMPLING, explain(e)) from None
        except (ValueError, TypeError, RecursionError) as e:
            raise RowError(RowErrorType.INVALID_SAMPLING, f"{SAMPLING_COLUMN}: {e}") from None

    def as_vllm(self) -> dict[str, Any]:
        """Keyword arguments for ``vllm.SamplingParams``."""
        arguments = self.model_dump(exclude_defaults=True, exclude={"n"})
        arguments |= {"temperature": self.temperature, "max_tokens": self.max_tokens}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in arguments.items()}


def explain(error: ValidationError) -> str:
    """One line about the first error in a row's sampling parameters."""
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else SAMPLING_COLUMN
    if first["type"] == "extra_forbidden":
        said = f"{SAMPLING_COLUMN} has no {shown(name)}"
        return "; ".join([said, *did_you_mean(name, Sampling.model_fields, "{!r}")])
    return f"{SAMPLING_COLUMN}.{name}: {in_words(first)}"
