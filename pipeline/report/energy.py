"""The energy that a run used, summed from what its workers' meters counted. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pipeline.engine.machine.vitals import EnergySpan, Vitals

_ALL = 0.999


@dataclass(frozen=True)
class Energy:
    """``joules``: of whole cards (or processors) while workers had them. ``covered``: the share of
    the workers' time that was metered, 0..1; ``seconds``: the metered time, summed over workers.
    ``counted``: all of it by the cards' own counters."""

    joules: float
    covered: float
    seconds: float
    counted: bool = True

    @property
    def complete(self) -> bool:
        return self.covered >= _ALL

    @property
    def kwh(self) -> float:
        return self.joules / 3.6e6


def energy_of(workers: Iterable[Vitals]) -> Energy | None:
    """The energy of these workers, one after the other or at once; None if nothing was metered."""
    lives = list(workers)
    spans = [span for vitals in lives for span in vitals.energy]
    seconds = sum(vitals.ended - vitals.began for vitals in lives)
    if not spans or seconds <= 0:
        return None
    metered = sum(vitals.ended - vitals.began for vitals in lives if vitals.metered)
    by_meter: dict[str, list[EnergySpan]] = {}
    for span in spans:
        by_meter.setdefault(span.meter, []).append(span)
    joules = sum(_union(same) for same in by_meter.values())
    return Energy(joules, metered / seconds, metered, all(span.counted for span in spans))


def _union(spans: Sequence[EnergySpan]) -> float:
    """Joules of one meter during all ``spans``. Each second counts once, because two engines on one
    processor read the same counter."""
    times = sorted({t for span in spans for t in (span.began, span.ended)})
    total = 0.0
    for begin, end in pairwise(times):
        there = [s for s in spans if s.began <= begin and s.ended >= end]
        powers = [s.joules / (s.ended - s.began) for s in there]
        total += (end - begin) * sum(powers) / len(powers) if powers else 0.0
    return total
