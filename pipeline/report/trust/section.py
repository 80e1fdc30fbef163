"""What right answers say about labels, as the tables of a report. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.humanize import count
from pipeline.report.classes import in_percent, per_class
from pipeline.report.trust.words import (
    Block,
    gold_words,
    interval,
    missing_words,
    more_words,
    promise_words,
    quality_words,
)

_SHARES_SHOWN = (0.25, 0.5, 0.75, 0.9, 1.0)  # of the curve


@dataclass(frozen=True)
class Table:
    """``note``: what the numbers are."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def sentences(block: Block) -> list[str]:
    """First the sentence on what is accepted, then what it is based on."""
    promise = " ".join(filter(None, (promise_words(block), more_words(block))))
    told = [promise, quality_words(block), missing_words(block), gold_words(block)]
    return [line for line in [*told, *block.get("notes", [])] if line]


def tables(block: Block) -> list[Table]:
    """The tables that have rows."""
    made = [_classes(block), _confusion(block), _shares(block), _reliability(block), _curve(block)]
    return [table for table in made if table.rows]


def _classes(block: Block) -> Table:
    rows = [
        (
            one.name,
            count(one.gold),
            count(one.labelled),
            in_percent(one.precision),
            in_percent(one.recall),
        )
        for one in per_class(block["confusion"])
    ]
    return Table(
        "Label by label",
        ("label", "gold rows", "got it", "precision", "recall"),
        rows,
        "Of gold rows drawn at random, each judged by a fit that did not see it.",
    )


def _confusion(block: Block) -> Table:
    found = block["confusion"]
    labels = [c for c in block["choices"] if any(c in row for row in found.values())]
    rows = [(gold, *(count(row.get(c, 0)) for c in labels)) for gold, row in found.items()]
    return Table("Gold and label", ("gold ↓, label →", *labels), rows)


def _shares(block: Block) -> Table:
    rows = [
        (
            one["choice"],
            count(one["labelled"]),
            in_percent(one["labelled"] / max(1, block["rows"])),
            interval(one["share"]),
            interval(one["gold_alone"]),
        )
        for one in block["shares"]
    ]
    return Table(
        "Shares of the labels",
        ("label", "rows", "counted", "estimated", "by gold rows alone"),
        rows,
        "Counted: rows with the label. Estimated: by all rows and the gold rows together "
        "(prediction-powered inference), which takes out what the labels get wrong; with 95 % "
        "intervals.",
    )


def _reliability(block: Block) -> Table:
    before, after = block.get("before"), block.get("after")
    bins: dict[tuple[float, float], list[str]] = {}
    for place, quality in enumerate((before, after)):
        for one in (quality or {}).get("reliability", ()):
            cells = bins.setdefault((one["low"], one["high"]), [""] * 4)
            cells[2 * place] = count(one["rows"])
            cells[2 * place + 1] = in_percent(one["right"])
    rows = [(f"{low:.1f}–{high:.1f}", *cells) for (low, high), cells in sorted(bins.items())]
    return Table(
        "How often a confidence is right",
        ("confidence", "rows before", "right", "rows calibrated", "right"),
        rows,
        "Before: the model's own probabilities. Good ones are right as often as they say.",
    )


def _curve(block: Block) -> Table:
    rows = [
        (
            in_percent(one["share"]),
            count(one["reviewed"]),
            in_percent(one["error"]),
            in_percent(one["upper"]),
        )
        for one in block["curve"]
        if any(abs(one["share"] - shown) < 1e-9 for shown in _SHARES_SHOWN)
    ]
    return Table(
        "If more or fewer rows were accepted",
        ("accepted, the surest first", "gold rows among them", "wrong", "wrong at most"),
        rows,
    )
