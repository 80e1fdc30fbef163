"""The result of a simulation: one card's figures, and those of all cards together. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.simulate.card import CardSim, NeverFits


@dataclass(frozen=True)
class SimulationFigures:
    """Of one card, or of all. ``mean_kv_use``: share of the pool that running requests held, and
    ``mean_batch``: requests running at once, both averaged over the time that engines worked.
    ``tail_idle_share``: of all cards' time up to the end, the part after their own last row."""

    makespan_seconds: float
    output_tokens_per_second: float
    preemptions: int
    recomputed_tokens: int
    recomputed_share: float
    mean_kv_use: float
    mean_batch: float
    tail_idle_share: float

    @classmethod
    def of(
        cls, cards: Sequence[CardSim], makespan: float, output: int | None = None
    ) -> SimulationFigures:
        """``makespan``: seconds until the last row of all cards ended. ``output``: tokens that
        count, if not all that the cards generated (None)."""
        if output is None:
            output = sum(card.totals.output_tokens for card in cards)
        computed = sum(card.computed_tokens for card in cards)
        recomputed = sum(card.recomputed_tokens for card in cards)
        busy = sum(card.totals.busy for card in cards)
        idle = sum(makespan - card.totals.last_end for card in cards)
        return cls(
            makespan_seconds=makespan,
            output_tokens_per_second=_ratio(output, makespan),
            preemptions=sum(card.preemptions for card in cards),
            recomputed_tokens=recomputed,
            recomputed_share=_ratio(recomputed, computed),
            mean_kv_use=_ratio(sum(card.totals.kv for card in cards), busy),
            mean_batch=_ratio(sum(card.totals.batch for card in cards), busy),
            tail_idle_share=_ratio(idle, makespan * len(cards)),
        )


@dataclass(frozen=True)
class SimulationOutcome:
    """``errors``: rows that cannot run. ``deaths``: of engines, and ``rows_lost``: rows that these
    had started or finished, and that were computed again."""

    whole: SimulationFigures
    cards: tuple[tuple[CardSim, SimulationFigures], ...]
    errors: tuple[NeverFits, ...]
    deaths: int = 0
    rows_lost: int = 0

    @classmethod
    def of(
        cls,
        cards: Sequence[CardSim],
        errors: Sequence[NeverFits] = (),
        *,
        output_tokens: int | None = None,
        deaths: int = 0,
        rows_lost: int = 0,
    ) -> SimulationOutcome:
        """The outcome after the end. ``errors``: in addition to those of the cards.
        ``output_tokens``: of rows that count, if some were computed twice."""
        makespan = max((card.totals.last_end for card in cards), default=0.0)
        each = tuple((card, SimulationFigures.of([card], makespan)) for card in cards)
        own = [error for card in cards for error in card.errors]
        whole = SimulationFigures.of(cards, makespan, output_tokens)
        return cls(whole, each, (*errors, *own), deaths, rows_lost)

    def as_json(self) -> dict[str, Any]:
        """The documented keys. Times in seconds, shares of 1; row numbers count from 0."""
        return {
            **_rounded(self.whole),
            **({"deaths": self.deaths, "rows_lost": self.rows_lost} if self.deaths else {}),
            "per_gpu": [
                {"gpu": card.name, "rows": card.totals.rows, **_rounded(figures)}
                for card, figures in self.cards
            ],
            "errors": [
                {"row": e.row.id, "type": "NeverFits", "message": e.message} for e in self.errors
            ],
        }


def _rounded(figures: SimulationFigures) -> dict[str, Any]:
    return {k: round(v, 6) if isinstance(v, float) else v for k, v in vars(figures).items()}


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
