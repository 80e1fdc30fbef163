"""The runs of a schedule in one table and one picture, for people."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from pipeline.humanize import count, rate
from pipeline.report.history.drift import drift

_DRAWN_RUNS, _DRAWN_LABELS = 60, 8
_COLOURS = (
    "#0b6bcb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#bf3989", "#0a7ea4", "#bc4c00",
)  # fmt: skip
_OTHERS, _INK, _MUTED = "#b1bac4", "#1f2328", "#6e7781"


@dataclass(frozen=True)
class PastRun:
    """What a run came to. ``labels``: label -> rows; ``drift``: see ``report.drift``."""

    name: str
    rows: int
    failed: int
    rows_per_second: float
    accuracy: float | None = None
    labels: Mapping[str, int] = field(default_factory=dict)
    drift: float | None = None

    @classmethod
    def of(cls, name: str, summary: Mapping[str, Any], earlier: Sequence[PastRun]) -> Self:
        labels = dict(summary.get("labels") or {})
        return cls(
            name,
            summary["rows"],
            summary["failed"],
            summary["rows_per_second"],
            summary.get("accuracy"),
            labels,
            drift(labels, [run.labels for run in earlier]),
        )


def history_page(name: str, runs: Sequence[PastRun], picture: str | None) -> str:
    """Markdown. ``runs``: the oldest first. ``picture``: the file's name beside the page."""
    lines = [
        f"# {name}",
        "",
        "| run | rows | failed | rows/s | accuracy | drift |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {run.name} | {count(run.rows)} | {count(run.failed)} | {rate(run.rows_per_second)} "
        f"| {_share(run.accuracy)} | {_share(run.drift)} |"
        for run in reversed(runs)
    ]
    lines += [
        "",
        "Drift: half the sum of the differences between the shares of the labels in a run and in "
        "all runs before it. 0: the same shares; 1: no label in common.",
    ]
    if picture is not None:
        lines += ["", f"![Share of each label, run by run]({picture})"]
    return "\n".join(lines) + "\n"


def draw_labels(runs: Sequence[PastRun]) -> bytes | None:
    """PNG: the share of each label in the last runs; None where there are no labels."""
    drawn = [run for run in runs if run.labels][-_DRAWN_RUNS:]
    if not drawn:
        return None
    from matplotlib.figure import Figure  # half a second to import

    total: Counter[str] = Counter()
    for run in drawn:
        total.update(run.labels)
    names = [name for name, _ in total.most_common(_DRAWN_LABELS)]
    figure = Figure(figsize=(9, 3.6), dpi=150, layout="constrained")
    axis = figure.subplots()
    places = range(len(drawn))
    floor = [0.0] * len(drawn)
    rows = [sum(run.labels.values()) for run in drawn]
    series = [
        (n, [r.labels.get(n, 0) / k for r, k in zip(drawn, rows, strict=True)]) for n in names
    ]
    for (label, shares), colour in zip(series, _COLOURS, strict=False):
        axis.bar(places, shares, bottom=floor, color=colour, width=0.8, label=label)
        floor = [a + b for a, b in zip(floor, shares, strict=True)]
    if len(total) > len(names):
        rest = [1 - done for done in floor]
        axis.bar(places, rest, bottom=floor, color=_OTHERS, width=0.8, label="others")
    every = -(-len(drawn) // 10)
    shown = list(places)[::every]
    axis.set_xticks(shown, [drawn[n].name[:10] for n in shown], fontsize=8, color=_MUTED)
    axis.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"], fontsize=8, color=_MUTED)
    axis.set_title("Share of each label, run by run", loc="left", fontsize=10.5, color=_INK)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.legend(
        loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8, reverse=True
    )
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
