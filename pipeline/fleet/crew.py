"""Who works: engines on the cards that are here, or on cards that the user asks about."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from pipeline.budget.cards import GIB, Card, card_from_device, cpu_card, find_card, parse_gpus
from pipeline.engine.facts import own_facts, processor_name
from pipeline.engine.machine import available_memory, cores, gpus
from pipeline.errors import MachineUnfit, UsageError
from pipeline.spec.job import Job, Resources

NO_CARD = "none"
_CORES = ", cores: "
_BOX_SHARE = 0.95  # drivers show a little less than the box says


@dataclass(frozen=True)
class Place:
    """Where an engine goes: on which of a machine's cards (``index``), or as which ``of`` how many
    engines that share its processor. ``node``: Ray's number of a machine of a rack; None: this
    machine. ``cores`` and ``preloads``: what the machine has of them."""

    index: int = 0
    of: int = 1
    node: str | None = None
    host: str = ""
    cores: tuple[int, ...] = ()
    preloads: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str | None, int]:
        return self.node, self.index

    @property
    def slot(self) -> str | None:
        """The name under which a worker there is found by the next job; None without a rack."""
        return None if self.node is None else f"worker/{self.node}/{self.index}"


@dataclass(frozen=True)
class Crew:
    """Engines of one kind: how many, and the card of each (None: simulated engines).

    Engines on a CPU share it: ``card`` is all of the processor, ``share`` what one of them has.
    ``places``: one for each engine; none where it is only asked what would be.
    """

    number: int
    card: Card | None
    model: str = ""  # a processor's own name
    places: tuple[Place, ...] = field(default=(), compare=False)

    @property
    def shared(self) -> bool:
        return self.card is not None and self.card.is_cpu

    @property
    def on_cards(self) -> bool:
        return self.card is not None and not self.card.is_cpu

    @property
    def share(self) -> Card:
        """What one engine has. Raises ValueError for simulated ones."""
        if self.card is None:
            raise ValueError("simulated engines have no card")
        if not self.shared or self._crowd == 1:
            return self.card
        here = self.places[0].cores if self.places else cores()
        return cpu_card(self.card.vram_bytes // self._crowd, max(1, len(here) // self._crowd))

    @property
    def _crowd(self) -> int:
        """Engines that share one processor."""
        return max((place.of for place in self.places), default=self.number)

    @property
    def name(self) -> str:
        """Identifies what the times of a run depend on."""
        if self.card is None:
            return NO_CARD
        return f"{self.model}, engines: {self._crowd}" if self.shared else self.card.name

    def watts(self, per_card: float | None = None) -> float:
        """Of all cards at work. ``per_card``: instead of the board power."""
        if self.card is None:
            return 0.0
        each = self.card.watts if per_card is None else per_card
        return each * (self.number / self._crowd if self.shared else self.number)


def local_crews(job: Job, units: int) -> list[Crew]:
    """The engines that a run of ``job`` starts on this machine, at most one for each unit.

    Raises UsageError when the job asks for more engines than there are GPUs, or for other ones.
    """
    wanted = job.resources.workers
    number = _at_most(1 if wanted == "auto" else wanted, units)
    if job.engine.kind == "simulated":
        return [Crew(number, None, places=_beside_each_other(number))]
    found = [card_from_device(g.name, g.memory_bytes, g.capability) for g in gpus()]
    if not found:
        check_wishes(job.resources, [])
        memory, processor = available_memory(), processor_name()
        card = cpu_card(memory, len(cores()))
        name = processor_with(processor, len(cores()))
        return [Crew(number, card, name, _beside_each_other(number))]
    check_wishes(job.resources, found)
    found = [card for card in found if meets(job.resources, card)]
    if wanted != "auto" and wanted > len(found):
        raise UsageError(f"resources.workers: {wanted} engines, but there are {len(found)} GPUs")
    number = _at_most(len(found) if wanted == "auto" else wanted, units)
    return _grouped(found[:number])


def processor_with(name: str, number: int) -> str:
    """What a processor with so many cores is called where cards have their names."""
    return f"{name}{_CORES}{number}"


def meets(wishes: Resources, card: Card) -> bool:
    """Whether ``card`` is one that the job asks for. Raises UsageError for cards unknown."""
    if wishes.gpu is not None and card.name not in [find_card(name).name for name in wishes.gpu]:
        return False
    return wishes.memory_gib is None or card.vram_bytes >= wishes.memory_gib * GIB * _BOX_SHARE


def check_wishes(wishes: Resources, cards: Sequence[Card]) -> None:
    """Raise UsageError if the job asks for cards and none of ``cards`` is such a one."""
    if wishes.gpu is None and wishes.memory_gib is None:
        return
    if any(meets(wishes, card) for card in cards):
        return
    asked = " or ".join(wishes.gpu or ("a card",))
    if wishes.memory_gib is not None:
        asked += f" with {wishes.memory_gib:g} GiB"
    kinds = ", ".join(sorted({card.title for card in cards})) or "no card at all"
    raise UsageError(f"resources: {asked} is asked for; there is {kinds}")


def asked_crews(text: str) -> list[Crew]:
    """The engines of "4x rtx3090,2x rtx4090", one for each card. Raises UsageError."""
    return [Crew(number, card) for number, card in parse_gpus(text)]


def visible_gpus(crews: Sequence[Crew]) -> str | None:
    """``CUDA_VISIBLE_DEVICES`` for engines on the cards of ``crews`` alone; None for all cards."""
    wanted = {crew.card.name for crew in crews if crew.card is not None and not crew.shared}
    found = [(g.index, card_from_device(g.name, g.memory_bytes, g.capability)) for g in gpus()]
    visible = [index for index, card in found if card.name in wanted]
    return None if len(visible) == len(found) else ",".join(map(str, visible))


def own_card(names: Collection[str], expected: str) -> str:
    """Which of the cards ``names`` this process was given: the ``expected`` one where no card can
    be seen. Raises MachineUnfit for a card that is none of them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0]
    devices = own_facts().devices
    if is_processor(expected) or not visible.isdigit() or int(visible) >= len(devices):
        return expected
    found = devices[int(visible)].card
    if found.name not in names:
        raise MachineUnfit(f"Ray gave it the {found}, on which the job does not run")
    return found.name


def is_processor(name: str) -> bool:
    """Whether a kind of card is none."""
    return name == NO_CARD or _CORES in name


def _beside_each_other(number: int) -> tuple[Place, ...]:
    return tuple(Place(index, number) for index in range(number))


def _at_most(number: int, units: int) -> int:
    return max(1, min(number, units))  # a unit is the least that an engine can do


def _grouped(cards: Sequence[Card]) -> list[Crew]:
    names = list(dict.fromkeys(card.name for card in cards))
    kinds = [(name, [c for c in cards if c.name == name]) for name in names]
    return [Crew(len(c), c[0], places=(Place(),) * len(c)) for _, c in kinds]
