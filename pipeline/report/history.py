"""The runs of a schedule in one table and one picture, for people."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from pipeline.humanize import count, rate
from pipeline.output.runs.status import taken_back
from pipeline.report.trust.words import taken_back_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DRAWN_RUNS, _DRAWN_LABELS, _DRAWN_QUESTIONS = 60, 8, 12
_COLOURS = (
    "#0b6bcb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#bf3989", "#0a7ea4", "#bc4c00",
)  # fmt: skip
_OTHERS, _INK, _MUTED = "#b1bac4", "#1f2328", "#6e7781"


def label_drift(labels: Mapping[str, int], earlier: Sequence[Mapping[str, int]]) -> float | None:
    """The total variation distance between the shares of the labels in a run and in all earlier
    runs together (half the sum of the differences): 0 (the same shares) to 1 (no label in common).
    None if one of the two has no rows. Counts are rows."""
    before: Counter[str] = Counter()
    for one in earlier:
        before.update(one)
    rows, rows_before = sum(labels.values()), before.total()
    if not rows or not rows_before:
        return None
    names = labels.keys() | before.keys()
    return sum(abs(labels.get(n, 0) / rows - before[n] / rows_before) for n in names) / 2


@dataclass(frozen=True)
class PastRun:
    """The result of a run. ``labels``: question -> label -> rows; the only question of a job with
    ``label`` has an empty name. ``drift``: see ``label_drift``; the largest of several questions.
    ``taken_back``: see ``output.runs.status``."""

    name: str
    rows: int
    failed: int
    rows_per_second: float
    accuracy: float | None = None
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    drift: float | None = None
    taken_back: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, summary: Mapping[str, Any], earlier: Sequence[PastRun]) -> Self:
        labels = {q: dict(one["labels"]) for q, one in (summary.get("questions") or {}).items()}
        if summary.get("labels"):
            labels[""] = dict(summary["labels"])
        apart = [
            label_drift(one, [run.labels.get(question, {}) for run in earlier])
            for question, one in labels.items()
        ]
        return cls(
            name,
            summary["rows"],
            summary["failed"],
            summary["rows_per_second"],
            summary.get("accuracy"),
            labels,
            max((one for one in apart if one is not None), default=None),
            taken_back(summary),
        )


def history_page(name: str, runs: Sequence[PastRun], picture: str | None) -> str:
    """Markdown. ``runs``: the oldest first. ``picture``: the name of a file in the same folder."""
    lines = [
        f"# {name}",
        "",
        "| run | rows | failed | rows/s | accuracy | drift |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {run.name} | {count(run.rows)} | {count(run.failed)} | {rate(run.rows_per_second)} "
        f"| {_share(run.accuracy)} | {_drift(run)} |"
        for run in reversed(runs)
    ]
    lines += [
        "",
        "Drift: half the sum of the differences between the shares of the labels in a run and in "
        "all runs before it. 0: the same shares; 1: no label in common. Of several questions: the "
        "largest.",
    ]
    if picture is not None:
        lines += ["", f"![Share of each label, run by run]({picture})"]
    return "\n".join(lines) + "\n"


def draw_labels(runs: Sequence[PastRun]) -> bytes | None:
    """PNG: the share of each label in the last runs, one panel per question; None without
    labels."""
    drawn = [run for run in runs if any(run.labels.values())][-_DRAWN_RUNS:]
    questions = list(dict.fromkeys(q for run in drawn for q in run.labels))[:_DRAWN_QUESTIONS]
    if not drawn:
        return None
    from matplotlib.figure import Figure  # half a second to import

    figure = Figure(figsize=(9, 3.6 * len(questions)), dpi=150, layout="constrained")
    axes = figure.subplots(len(questions), squeeze=False)[:, 0]
    for axis, question in zip(axes, questions, strict=True):
        _draw_shares(axis, question, drawn)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _draw_shares(axis: Axes, question: str, drawn: Sequence[PastRun]) -> None:
    counts = [run.labels.get(question, {}) for run in drawn]
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    names = [name for name, _ in total.most_common(_DRAWN_LABELS)]
    places = range(len(drawn))
    floor = [0.0] * len(drawn)
    rows = [max(1, sum(one.values())) for one in counts]
    series = [(n, [c.get(n, 0) / k for c, k in zip(counts, rows, strict=True)]) for n in names]
    for (label, shares), colour in zip(series, _COLOURS, strict=False):
        axis.bar(places, shares, bottom=floor, color=colour, width=0.8, label=label)
        floor = [a + b for a, b in zip(floor, shares, strict=True)]
    if len(total) > len(names):
        rest = [1 - done if one else 0.0 for done, one in zip(floor, counts, strict=True)]
        axis.bar(places, rest, bottom=floor, color=_OTHERS, width=0.8, label="others")
    every = -(-len(drawn) // 10)
    shown = list(places)[::every]
    axis.set_xticks(shown, [drawn[n].name[:10] for n in shown], fontsize=8, color=_MUTED)
    axis.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"], fontsize=8, color=_MUTED)
    of = f"{question}: share" if question else "Share"
    axis.set_title(f"{of} of each label, run by run", loc="left", fontsize=10.5, color=_INK)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.legend(
        loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8, reverse=True
    )


def _drift(run: PastRun) -> str:
    return ", ".join([*filter(None, [_share(run.drift)]), *taken_back_words(run.taken_back)])


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
