"""Pictures of a comparison, as PNG."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pipeline.humanize import count
from pipeline.report.comparison.quality import Bootstrap, CandidateQuality

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _MUTED, _GRID = "#1f2328", "#6e7781", "#e6e8eb"
_REFERENCE, _CANDIDATE = "#6e7781", "#0b6bcb"
_NAME_CHARACTERS = 32


def draw_quality(
    reference: str, compared: Sequence[tuple[str, CandidateQuality]], source: str
) -> bytes:
    """Perplexity, KL divergence and greedy agreement of each candidate, with intervals.

    ``source``: what was scored, for the caption. Needs at least one candidate.
    """
    from matplotlib.figure import Figure  # half a second to import

    first = compared[0][1]
    names = [_short(reference), *(_short(name) for name, _ in compared)]
    figure = Figure(figsize=(11, 1.9 + 0.5 * len(names)), dpi=150, layout="constrained")
    figure.get_layout_engine().set(wspace=0.06)  # type: ignore[union-attr, call-arg]
    axes = figure.subplots(1, 3, sharey=True)
    nothing, all_of_them = Bootstrap(0, 0, 0), Bootstrap(1, 1, 1)
    panels = (
        ("Perplexity", "lower is better", "perplexity", first.reference_perplexity),
        ("KL divergence from the reference", "nats a token, lower is better", "kl", nothing),
        ("Same likeliest token", "share of tokens, higher is better", "agreement", all_of_them),
    )
    for axis, (title, unit, name, own) in zip(axes, panels, strict=True):
        text = _percent if name == "agreement" else _plain
        axis.set_title(title, loc="left", fontsize=10.5, color=_INK, pad=8)
        axis.set_xlabel(unit, fontsize=8.5, color=_MUTED)
        axis.axvline(own.value, color=_REFERENCE, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
        _point(axis, 0, own, "0" if own is nothing else text(own), _REFERENCE)
        for place, (_, quality) in enumerate(compared, 1):
            value: Bootstrap = getattr(quality, name)
            label = text(value)
            if name == "perplexity":
                label += f"  ({100 * (quality.ratio.value - 1):+.1f} %)"
            _point(axis, place, value, label, _CANDIDATE)
        _tidy(axis, text)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    axes[0].get_yticklabels()[0].set_color(_MUTED)
    figure.supxlabel(
        f"{source} · {count(first.rows)} rows, {count(first.tokens)} tokens · "
        "bars: 95 % bootstrap intervals over rows",
        fontsize=8,
        color=_MUTED,
        x=0.01,
        ha="left",
    )
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _point(axis: Axes, place: int, value: Bootstrap, label: str, colour: str) -> None:
    axis.errorbar(
        [value.value],
        [place],
        xerr=[[max(value.value - value.low, 0)], [max(value.high - value.value, 0)]],
        fmt="o",
        color=colour,
        markersize=6,
        elinewidth=2,
        capsize=3,
        zorder=3,
    )
    axis.annotate(
        label,
        (value.value, place),
        xytext=(0, 8),
        textcoords="offset points",
        ha="center",
        fontsize=8.5,
        color=_INK,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        zorder=2,
    )


def _tidy(axis: Axes, text: Callable[[Bootstrap], str]) -> None:
    axis.margins(x=0.25)
    axis.grid(axis="x", color=_GRID, linewidth=0.8)
    axis.locator_params(axis="x", nbins=5)
    axis.set_axisbelow(True)
    axis.tick_params(length=0, labelsize=8.5, colors=_INK)
    axis.spines[:].set_visible(False)
    if text is _percent:
        axis.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.0f} %" if x < 1.001 else "")


def _plain(value: Bootstrap) -> str:
    return f"{value.value:#.3g}" if abs(value.value) < 100 else f"{value.value:.0f}"


def _percent(value: Bootstrap) -> str:
    return f"{100 * value.value:.1f} %"


def _short(name: str) -> str:
    return name if len(name) <= _NAME_CHARACTERS else "…" + name[-_NAME_CHARACTERS + 1 :]
