"""Who works: engines on the cards that are here, or on cards that the user asks about."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.budget.cards import Card, card_from_device, cpu_card, parse_gpus
from pipeline.engine.facts import processor_name
from pipeline.engine.machine import available_memory, cores, gpus
from pipeline.errors import UsageError
from pipeline.spec.job import Job


@dataclass(frozen=True)
class Crew:
    """Engines of one kind: how many, and the card of each (None: simulated engines).

    Engines on a CPU share it: ``card`` is all of the processor, ``share`` what one of them has.
    """

    number: int
    card: Card | None
    model: str = ""  # a processor's own name

    @property
    def shared(self) -> bool:
        return self.card is not None and self.card.is_cpu

    @property
    def share(self) -> Card:
        """What one engine has. Raises ValueError for simulated ones."""
        if self.card is None:
            raise ValueError("simulated engines have no card")
        if not self.shared or self.number == 1:
            return self.card
        return cpu_card(self.card.vram_bytes // self.number, max(1, len(cores()) // self.number))

    @property
    def name(self) -> str:
        """Identifies what the times of a run depend on."""
        if self.card is None:
            return "none"
        return f"{self.model}, engines: {self.number}" if self.shared else self.card.name

    def watts(self, per_card: float | None = None) -> float:
        """Of all cards at work. ``per_card``: instead of the board power."""
        if self.card is None:
            return 0.0
        each = self.card.watts if per_card is None else per_card
        return each if self.shared else each * self.number


def local_crews(job: Job, units: int) -> list[Crew]:
    """The engines that a run of ``job`` starts on this machine, at most one for each unit.

    Raises UsageError when the job asks for more engines than there are GPUs.
    """
    wanted = job.resources.workers
    if job.engine.kind == "simulated":
        return [Crew(_at_most(1 if wanted == "auto" else wanted, units), None)]
    found = [card_from_device(g.name, g.memory_bytes, g.capability) for g in gpus()]
    if not found:
        number = _at_most(1 if wanted == "auto" else wanted, units)
        memory, processor = available_memory(), processor_name()
        return [Crew(number, cpu_card(memory, len(cores())), f"{processor}, cores: {len(cores())}")]
    if wanted != "auto" and wanted > len(found):
        raise UsageError(f"resources.workers: {wanted} engines, but there are {len(found)} GPUs")
    number = _at_most(len(found) if wanted == "auto" else wanted, units)
    return _grouped(found[:number])


def asked_crews(text: str) -> list[Crew]:
    """The engines of "4x rtx3090,2x rtx4090", one for each card. Raises UsageError."""
    return [Crew(number, card) for number, card in parse_gpus(text)]


def visible_gpus(crews: Sequence[Crew]) -> str | None:
    """``CUDA_VISIBLE_DEVICES`` for engines on the cards of ``crews`` alone; None for all cards."""
    wanted = {crew.card.name for crew in crews if crew.card is not None and not crew.shared}
    found = [(g.index, card_from_device(g.name, g.memory_bytes, g.capability)) for g in gpus()]
    visible = [index for index, card in found if card.name in wanted]
    return None if len(visible) == len(found) else ",".join(map(str, visible))


def own_card(names: Iterable[str]) -> str:
    """Which of these cards this process was given."""
    known = list(names)
    if len(known) > 1:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        for gpu in gpus():
            card = card_from_device(gpu.name, gpu.memory_bytes, gpu.capability)
            if str(gpu.index) == visible and card.name in known:
                return card.name
    return known[0]


def _at_most(number: int, units: int) -> int:
    return max(1, min(number, units))  # a unit is the least that an engine can do


def _grouped(cards: Sequence[Card]) -> list[Crew]:
    names = list(dict.fromkeys(card.name for card in cards))
    return [
        Crew(sum(c.name == name for c in cards), next(c for c in cards if c.name == name))
        for name in names
    ]
