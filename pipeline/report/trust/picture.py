"""How sure and how right labels are, as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _MUTED, _GRID, _BEFORE, _AFTER = "#1f2328", "#6e7781", "#e6e8eb", "#9a6700", "#0b6bcb"
_LINE = (0, (3, 3))
_OF_BIN = ("confidence", "right", "rows")


def draw_trust(blocks: Mapping[str, Mapping[str, Any]]) -> bytes | None:
    """PNG: for each question the reliability curve, and the share of wrong rows over the share of
    accepted rows. None if no right answers are known."""
    drawn = [(name, block) for name, block in blocks.items() if block.get("before")]
    if not drawn:
        return None
    from matplotlib.figure import Figure  # half a second to import

    figure = Figure(figsize=(9, 3.4 * len(drawn)), dpi=150, layout="constrained")
    rows = figure.subplots(len(drawn), 2, squeeze=False)
    for (name, block), (left, right) in zip(drawn, rows, strict=True):
        title = f"{name}: " if len(blocks) > 1 else ""
        _reliability(left, block, title)
        _curve(right, block, title)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _reliability(axis: Axes, block: Mapping[str, Any], title: str) -> None:
    _tidy(axis, f"{title}How often a confidence is right", "confidence", "right")
    axis.plot([0, 1], [0, 1], color=_MUTED, linewidth=1, linestyle=_LINE)
    told = (("before", _BEFORE, "the model's own"), ("after", _AFTER, "calibrated"))
    for key, colour, label in told:
        bins = (block.get(key) or {}).get("reliability") or ()
        if bins:
            places, right, rows = zip(*([b[k] for k in _OF_BIN] for b in bins), strict=True)
            axis.plot(places, right, color=colour, linewidth=1.2, label=label)
            axis.scatter(places, right, s=[10 + 90 * n / max(rows) for n in rows], color=colour)
    lowest = min(1 / max(2, len(block["choices"])), 0.5)
    axis.set_xlim(lowest - 0.02, 1.02)
    axis.set_ylim(-0.02, 1.02)
    axis.legend(frameon=False, fontsize=8, loc="lower right")


def _curve(axis: Axes, block: Mapping[str, Any], title: str) -> None:
    _tidy(axis, f"{title}Wrong among the accepted", "accepted, the surest first", "wrong")
    points: Sequence[Mapping[str, float]] = block["curve"]
    shares = [one["share"] for one in points]
    axis.plot(shares, [one["error"] for one in points], color=_AFTER, linewidth=1.4, label="seen")
    axis.plot(
        shares,
        [one["upper"] for one in points],
        color=_AFTER,
        linewidth=1,
        linestyle=_LINE,
        label="at most",
    )
    promise, outcome = block.get("promise"), block.get("acceptance") or {}
    if promise:
        axis.axhline(promise["error"], color=_MUTED, linewidth=1, linestyle=_LINE)
    if "threshold" in outcome and block["rows"]:
        axis.axvline(outcome["rows"] / block["rows"], color=_BEFORE, linewidth=1.2)
        axis.annotate(
            "accepted ",
            (outcome["rows"] / block["rows"], 0.96),
            xycoords=("data", "axes fraction"),
            fontsize=8,
            color=_BEFORE,
            ha="right",
            va="top",
        )
    highest = max([one["upper"] for one in points if one["reviewed"] >= _FEW] or [0.2])
    axis.set_xlim(0, 1.02)
    axis.set_ylim(0, min(1.0, max(highest, 2 * (promise or {}).get("error", 0.05)) * 1.1))
    axis.legend(frameon=False, fontsize=8, loc="upper left")


_FEW = 20  # gold rows: with fewer, the bound is so high that it would flatten the rest


def _tidy(axis: Axes, title: str, below: str, beside: str) -> None:
    axis.set_title(title, loc="left", fontsize=10.5, color=_INK, pad=8)
    axis.set_xlabel(below, fontsize=8.5, color=_MUTED)
    axis.set_ylabel(beside, fontsize=8.5, color=_MUTED)
    axis.grid(color=_GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(length=0, labelsize=8.5, colors=_INK)
    axis.spines[:].set_visible(False)
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
