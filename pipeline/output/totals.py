"""The part of a summary about a dataset's rows: their tally under the names used there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from pipeline.output.tally import Tally
from pipeline.rows.error_reasons import reasons_by_type


def totals(total: Tally, *, graded: bool) -> dict[str, Any]:
    """``graded``: the job has right answers. See ``report.summary.Summary``."""
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
        "error_reasons": reasons_by_type(total.error_reasons),
        **_of_answers(total.labels, total.confusion if graded else {}),
        "questions": of_questions(total),
        "scored_tokens": total.scored_tokens,
        "logprob": total.logprob if total.scored_tokens else None,
        "perplexity": total.perplexity,
        "completion_lengths": dict(sorted(total.completion_lengths.items())),
        "longest_completion": total.longest_completion,
        "answered_by": dict(total.answered_by.most_common()),
    }


def of_questions(total: Tally) -> dict[str, dict[str, Any]]:
    """For each of several questions what ``totals`` says about a label, in the order in which the
    questions were found."""
    labels = _by_question(total.question_labels)
    graded = _by_question(total.question_confusion)
    return {name: _of_answers(one, graded.get(name, {})) for name, one in labels.items()}


def _of_answers(labels: Mapping[str, int], confusion: Mapping[str, int]) -> dict[str, Any]:
    return {
        "labels": dict(Counter(labels).most_common()),
        "accuracy": accuracy(confusion),
        "graded": sum(confusion.values()),
        "graded_right": _right(confusion),
        "confusion": nested(confusion),
    }


def _by_question(counts: Mapping[str, int]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for key, number in counts.items():
        name, _, rest = key.partition("\t")
        if number:
            found.setdefault(name, {})[rest] = number
    return found


def rounded(content: Mapping[str, Any]) -> dict[str, Any]:
    """With its numbers rounded to meaningful digits."""
    return {
        k: round(v, 4) if isinstance(v, float) else rounded(v) if isinstance(v, dict) else v
        for k, v in content.items()
    }


def accuracy(confusion: Mapping[str, int]) -> float | None:
    """Share of graded answers that are right; None if there are none.

    ``confusion``: "gold<TAB>label" -> answers, or "right" and "wrong" -> answers.
    """
    graded = sum(confusion.values())
    return _right(confusion) / graded if graded else None


def _right(confusion: Mapping[str, int]) -> int:
    return sum(n for key, n in confusion.items() if _is_right(key))


def _is_right(key: str) -> bool:
    gold, tab, label = key.partition("\t")
    return gold == label if tab else gold == "right"


def nested(confusion: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Gold -> label -> answers, from the counts that a tally keeps by "gold<TAB>label"; empty if
    it is only known which answers were right."""
    found: dict[str, dict[str, int]] = {}
    for key, n in sorted(confusion.items()):
        gold, tab, label = key.partition("\t")
        if tab:
            found.setdefault(gold, {})[label] = n
    return found
