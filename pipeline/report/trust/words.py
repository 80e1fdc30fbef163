"""What right answers say about labels, in words. Pure; made from the block in a summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.humanize import count, percent, plural
from pipeline.output.columns.probabilities import WRITTEN

_FIRST_REVIEW = 100  # rows: about ten minutes

Block = Mapping[str, Any]  # of one question: see ``Summary.trust``


def gold_words(block: Block) -> str:
    """How many right answers there are, and how their rows were drawn."""
    gold = block["gold"]
    rows, drawn = gold["rows"], gold["at_random"]
    source = " and ".join(block.get("gold_from") or []) or "none"
    how = f"{count(drawn)} drawn at random, {count(rows - drawn)} uncertain, weighted"
    if rows == drawn:
        how = (
            "drawn at random"
            if gold["probabilities_known"]
            else "taken for rows drawn at random: nothing else is known of how they were chosen"
        )
    return f"{plural(rows, 'gold row')} from {source} ({how})"


def accuracy_of(block: Block) -> Mapping[str, float] | None:
    """Value, low and high: over all rows, with the gold rows' weights if they have any."""
    quality = block.get("after") or block.get("before")
    found: Mapping[str, float] | None = block.get("weighted_accuracy")
    if found is None and quality:
        found = quality["accuracy"]
    return found


def interval(value: Mapping[str, float]) -> str:
    """ "0.912 (0.861–0.953)"."""
    low, high = value["low"], value["high"]
    return f"{value['value']:.3f} ({low:.3f}–{high:.3f})"


def quality_words(block: Block) -> str | None:
    """Accuracy and calibration in one line; None if nothing is known."""
    accuracy = accuracy_of(block)
    if accuracy is None:
        return None
    before, after = block.get("before"), block.get("after")
    parts = [f"accuracy {interval(accuracy)}"]
    for key, name in (("calibration_error", "calibration error"), ("brier", "Brier score")):
        told = [f"{one[key]:.3f}" for one in (before, after) if one]
        if told:
            parts.append(f"{name} {' → '.join(told)}")
    return " · ".join(parts)


def taken_back_words(questions: Sequence[str]) -> list[str]:
    """That a promise was taken back, and of which ``questions``; empty if none was."""
    if not questions:
        return []
    of = "" if list(questions) == ["label"] else f" ({', '.join(questions)})"
    return [f"promise taken back{of}"]


def promise_words(block: Block) -> str | None:
    """The sentence on what is accepted; None if no promise was asked for."""
    promise, outcome = block.get("promise"), block.get("acceptance")
    if not promise:
        return None
    error, confidence = percent(promise["error"]), percent(promise["confidence"])
    what = f"at most {error} of them wrong, with {confidence} confidence"
    rows = plural(block["rows"], "row")
    if outcome and "threshold" in outcome:
        return f"{count(outcome['rows'])} of {rows} are accepted: {what}."
    why = block.get("no_promise")
    if outcome:
        best = outcome.get("best_error")
        why = "too few gold rows, or too many of them wrong"
        if outcome.get("more"):
            why = f"it needs {count(outcome['more'])} more gold rows at least"
        if best is not None:
            why += (
                f"; with these, {percent(best)} could be promised for "
                f"{plural(outcome['best_rows'], 'row')}"
            )
    return f"None of {rows} is accepted ({what}): {why}."


def more_words(block: Block) -> str | None:
    """What more review would gain; None if nothing."""
    more = block.get("more_review")
    if not more:
        return None
    return f"Reviewing {count(more['rows'])} more would gain about {count(more['gain'])}."


def missing_words(block: Block) -> str | None:
    """Why probabilities are not calibrated; None if they are."""
    why: str | None = block.get("no_calibration")
    if why and why.startswith(WRITTEN):
        return why
    return f"probabilities are the model's own: {why}" if why else None


def review_command(block: Block, output: str, more: int, question: str | None = None) -> str:
    """The command that asks people about ``more`` rows. ``question``: which of several."""
    reviewed = block["gold"]["rows"] if "reviews" in (block.get("gold_from") or []) else 0
    which = f" --question {question}" if question else ""
    return f"rackmill review {output}{which} --rows {reviewed + more}"


def lines(block: Block, output: str, question: str | None = None) -> list[str]:
    """All of this for a terminal. ``question``: the name of one of several."""
    if not block["gold"]["rows"]:
        label_some = review_command(block, output, _FIRST_REVIEW, question)
        return [f"no right answer is known yet: {label_some}", *block.get("notes", [])]
    more = more_words(block)
    if more:
        more += f"   {review_command(block, output, block['more_review']['rows'], question)}"
    found = [
        gold_words(block),
        quality_words(block),
        missing_words(block),
        promise_words(block),
        more,
        *block.get("notes", []),
    ]
    return [line for line in found if line]
