"""Which build of vLLM a machine is for: CUDA, or the CPU's. Pure, standard library only.

The CUDA build wants a card of compute capability 8.0 (Ampere: Gemma 3 needs bfloat16) and a driver
for CUDA 13.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .faults import Fault, is_old, old_driver
from .surroundings import Surroundings

NEEDED_CAPABILITY = (8, 0)
CUDA, CPU = "cuda", "cpu"
# nvidia-smi of drivers before 510 does not tell the capability: the name does, for what is too old
_BEFORE_AMPERE = re.compile(
    r"\b(GT|GTX|MX\d+|RTX 20[6-8]0|TITAN|Quadro|Tesla [A-Z]\d+|T4|T4G|T\d{3,4}|V100|P\d+)\b"
)


@dataclass(frozen=True)
class SeenCard:
    """A card as set-up or NVML sees it. ``capability``: None where the driver does not tell."""

    name: str
    capability: tuple[int, int] | None = None

    @property
    def title(self) -> str:
        return self.name.removeprefix("NVIDIA ").removeprefix("GeForce ")

    @property
    def too_old(self) -> bool:
        if self.capability is None:
            return _BEFORE_AMPERE.search(self.name) is not None
        return self.capability < NEEDED_CAPABILITY


@dataclass(frozen=True)
class Variant:
    """``build``: "cuda" or "cpu"; ``reason``: why, a line. ``faults``: what could be better."""

    build: str
    reason: str
    faults: tuple[Fault, ...] = ()


def unfit(card: SeenCard) -> str | None:
    """Why no engine runs on ``card``, whatever its driver; None: one does."""
    if not card.too_old:
        return None
    told = ".".join(map(str, card.capability)) if card.capability else "below 8.0"
    return (
        f"{card.title} (compute capability {told}) has no bfloat16, which Gemma 3 needs: "
        "that takes 8.0, an RTX 30xx or newer"
    )


def choose_variant(
    cards: Sequence[SeenCard], driver: str, around: Surroundings, faults: Sequence[Fault] = ()
) -> Variant:
    """The build for a machine with ``cards`` that its ``driver`` ("580.95.05") shows.

    ``faults``: what is wrong with the driver or with cards that it does not show.
    """
    reasons = [reason for card in cards if (reason := unfit(card)) is not None]
    able = [card for card in cards if unfit(card) is None]
    faults = tuple(faults)
    if able and is_old(driver):
        faults = (*faults, old_driver(driver, around))
        able_titles = _list(able)
        return Variant(CPU, f"{able_titles} cannot be used: {faults[-1].says}", faults)
    if able:
        others = [f"{reason} (it is left alone)" for reason in reasons]
        more = f"; {'; '.join(others)}" if others else ""
        return Variant(CUDA, f"{_list(able)}, driver {driver}{more}", faults)
    if reasons:
        return Variant(CPU, "; ".join(dict.fromkeys(reasons)), faults)
    if faults:
        return Variant(CPU, "; ".join(fault.says for fault in faults), faults)
    return Variant(CPU, "no NVIDIA GPU", faults)


def _list(cards: Sequence[SeenCard]) -> str:
    return " and ".join(dict.fromkeys(card.title for card in cards))
