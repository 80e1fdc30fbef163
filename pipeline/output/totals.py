"""What a summary says of a dataset's rows: all that their tally gives, under its names there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.output.tally import Tally
from pipeline.rows.error_reasons import by_type


def totals(total: Tally, *, graded: bool) -> dict[str, Any]:
    """``graded``: the job names right answers. See ``report.summary.Summary``."""
    return {
        "rows": total.rows,
        "succeeded": total.succeeded,
        "failed": total.failed,
        "duplicates": total.duplicates,
        "requests": total.requests,
        "prompt_tokens": total.prompt_tokens,
        "completion_tokens": total.completion_tokens,
        "errors": dict(total.errors.most_common()),
        "error_examples": dict(total.error_examples),
        "error_reasons": by_type(total.error_reasons),
        "labels": dict(total.labels.most_common()),
        "accuracy": accuracy(total.confusion) if graded else None,
        "scored_tokens": total.scored_tokens,
        "logprob": total.logprob if total.scored_tokens else None,
        "perplexity": total.perplexity,
        "completion_lengths": dict(sorted(total.completion_lengths.items())),
        "longest_completion": total.longest_completion,
    }


def rounded(content: Mapping[str, Any]) -> dict[str, Any]:
    """With its numbers to what is meaningful."""
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in content.items()}


def accuracy(confusion: Mapping[str, int]) -> float | None:
    """Share of graded answers that are right; None if there are none.

    ``confusion``: "gold<TAB>label" -> answers, or "right" and "wrong" -> answers.
    """
    graded = sum(confusion.values())
    right = sum(n for key, n in confusion.items() if _is_right(key))
    return right / graded if graded else None


def _is_right(key: str) -> bool:
    gold, tab, label = key.partition("\t")
    return gold == label if tab else gold == "right"
