"""Counts over a unit's rows; they can be added, and the report is their sum."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pipeline.rows.error_reasons import bound_reasons


@dataclass
class Tally:
    """Counts over rows. Tokens are prompt and completion tokens as the engine counted them.

    ``logprob``: the sum (natural logarithm) over the ``scored_tokens`` of a job that scores.
    ``duplicates``: rows whose answer was computed for another row, and cost nothing. ``requests``:
    to the engines, for the rows that succeeded. ``longest_completion``: tokens.
    """

    rows: int = 0
    failed: int = 0
    duplicates: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    scored_tokens: int = 0
    logprob: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)  # RowErrorType -> rows
    error_examples: dict[str, str] = field(default_factory=dict)  # RowErrorType -> a message
    error_reasons: Counter[str] = field(default_factory=Counter)  # "RowErrorType\treason" -> rows
    labels: Counter[str] = field(default_factory=Counter)
    confusion: Counter[str] = field(default_factory=Counter)  # "gold\tlabel" -> answers
    question_labels: Counter[str] = field(default_factory=Counter)  # "question\tlabel" -> rows
    # "question\tgold\tlabel" -> rows
    question_confusion: Counter[str] = field(default_factory=Counter)
    finish_reasons: Counter[str] = field(default_factory=Counter)
    prompt_lengths: Counter[int] = field(default_factory=Counter)  # bucket -> rows
    completion_lengths: Counter[int] = field(default_factory=Counter)  # bucket -> answers
    answered_by: Counter[str] = field(default_factory=Counter)  # engine -> rows, if it is recorded
    longest_completion: int = 0

    @property
    def succeeded(self) -> int:
        return self.rows - self.failed

    @property
    def perplexity(self) -> float | None:
        """Over all scored tokens, with equal weights; None when there are none."""
        return perplexity(self.logprob, self.scored_tokens)

    def add(self, other: Tally) -> None:
        """Add the counts of ``other``."""
        mine = vars(self)
        for name, value in vars(other).items():
            if not value:
                continue  # most are empty, and a resume adds a million tallies
            if isinstance(value, Counter):
                counts = mine[name]
                for key, number in value.items():
                    counts[key] = counts.get(key, 0) + number
                if name == "error_reasons":
                    bound_reasons(counts)
            elif isinstance(value, dict):
                for key, example in value.items():
                    mine[name].setdefault(key, example)
            elif name == "longest_completion":
                mine[name] = max(mine[name], value)
            else:
                mine[name] += value

    def as_json(self) -> dict[str, Any]:
        return {k: dict(v) if isinstance(v, dict) else v for k, v in vars(self).items()}


def perplexity(logprob: float, tokens: int) -> float | None:
    """``exp(-logprob / tokens)``; None for no tokens. Infinite if a token is impossible."""
    if not tokens:
        return None
    try:
        return math.exp(-logprob / tokens)
    except OverflowError:
        return math.inf


def length_bucket(tokens: int) -> int:
    """The smallest power of two that is at least ``tokens``: this keeps histograms short."""
    return 1 << max(tokens - 1, 0).bit_length()
