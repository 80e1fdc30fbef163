"""The engines of a run: on the cards of this machine, or on cards that the user asks about.

An engine has a slot: one card, or several equal ones of a machine that share every layer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pipeline.budget.cards.lookup import (
    GIB,
    Card,
    cpu_card,
    find_card,
    in_slot,
    parse_gpus,
)
from pipeline.cluster.card_slots import (
    CardSlot,
    Spread,
    asked_slots,
    divide,
    refuse_spread,
    spread_in_words,
)
from pipeline.engine.gpu.usable import offer
from pipeline.engine.machine.facts import processor_name
from pipeline.engine.machine.host import available_memory, cores, native_bf16
from pipeline.errors import UsageError
from pipeline.humanize import plural
from pipeline.job.engine import SERVER, EngineSettings
from pipeline.job.job import Job
from pipeline.job.resources import Resources

if TYPE_CHECKING:  # it imports gRPC, which a plan does not need
    from pipeline.cluster.rack_state.allocation import Key

NO_CARD = "none"
_CORES = ", cores: "
_BOX_SHARE = 0.95  # drivers report a little less memory than the box


@dataclass(frozen=True)
class Slot:
    """Where an engine runs: on which of a machine's ``cards``, or as number ``index`` ``of`` the
    engines that share its processor. ``node``: Ray's ID of a machine of a rack; None: this machine.
    ``cores`` and ``preloads``: those of the machine. ``served``: its engine is a server, and takes
    none of the rack's cards."""

    index: int = 0
    of: int = 1
    node: str | None = None
    host: str = ""
    cores: tuple[int, ...] = ()
    preloads: tuple[str, ...] = ()
    cards: tuple[int, ...] = ()
    served: bool = False

    @property
    def keys(self) -> frozenset[tuple[str | None, int]]:
        """Keys of all its cards; on a processor, of its slot there; for a server, a unique one."""
        if self.served:
            return frozenset({(self.node, -1 - self.index)})
        return frozenset((self.node, number) for number in self.cards or (self.index,))

    @property
    def shared_keys(self) -> frozenset[Key]:
        """Keys of a rack's cards; none without a rack."""
        keys = () if self.served else self.keys
        return frozenset((node, number) for node, number in keys if node is not None)

    def is_among(self, allotted: Collection[Key]) -> bool:
        """Whether it takes only cards among these."""
        return self.served or self.keys <= set(allotted)

    @property
    def slot(self) -> str | None:
        """The name by which the next job finds a worker there; None without a rack."""
        if self.node is None or self.served:
            return None
        return slot_name(self.node, self.cards or (self.index,))


_SLOT = "worker/{}/{}"


def slot_name(node: str, cards: Collection[int]) -> str:
    """The name of a worker on such cards of a rack's machine."""
    return _SLOT.format(node, "+".join(map(str, sorted(cards))))


def keys_in(slot: str) -> frozenset[Key]:
    """The cards of the slot with such a name; none for other names."""
    parts = slot.split("/")
    numbers = parts[-1].split("+")
    if len(parts) != 3 or slot != _SLOT.format(*parts[1:]) or not all(map(str.isdigit, numbers)):
        return frozenset()
    return frozenset((parts[1], int(number)) for number in numbers)


@dataclass(frozen=True)
class EngineGroup:
    """Engines of one kind: how many, and the card of each (None: simulated engines, and servers).

    Engines on a CPU share it: ``card`` is the whole processor, ``share`` one engine's part.
    ``slots``: one for each engine; none for cards that a user only asks about. ``cards``: number
    of such cards per engine. ``engine``: for a job with different engines, which of them it is.
    """

    number: int
    card: Card | None
    model: str = ""  # a processor's own name; "llama.cpp server"
    slots: tuple[Slot, ...] = field(default=(), compare=False)
    cards: int = 1
    engine: EngineSettings | None = None

    def job(self, job: Job) -> Job:
        """``job`` with the engine that this group's workers have."""
        return job if self.engine is None else job.with_engine(self.engine)

    @property
    def shared(self) -> bool:
        return self.card is not None and self.card.is_cpu

    @property
    def on_cards(self) -> bool:
        return self.card is not None and not self.card.is_cpu

    @property
    def share(self) -> Card:
        """What one engine has, on each of its cards. Raises ValueError for simulated ones."""
        if self.card is None:
            raise ValueError("simulated engines have no card")
        if not self.shared or self._crowd == 1:
            return self.card
        here = self.slots[0].cores if self.slots else cores()
        return cpu_card(
            self.card.vram_bytes // self._crowd,
            max(1, len(here) // self._crowd),
            native_bf16=self.card.native_bf16,
        )

    @property
    def _crowd(self) -> int:
        """The number of engines that share one processor."""
        return max((slot.of for slot in self.slots), default=self.number)

    @property
    def name(self) -> str:
        """Identifies the hardware that the times of a run depend on."""
        if self.card is None:
            return self.model or NO_CARD
        if self.shared:
            return f"{self.model}, engines: {self._crowd}"
        return in_slot(self.card.name, self.cards)

    @property
    def all_cards(self) -> int:
        """The number of cards of all its engines; 0 without cards."""
        return self.number * self.cards if self.on_cards else 0

    def watts(self, per_card: float | None = None) -> float:
        """The power of all cards at work. ``per_card``: replaces the board power."""
        if self.card is None:
            return 0.0
        each = self.card.watts if per_card is None else per_card
        return each * (self.number / self._crowd if self.shared else self.all_cards)


def engines_here(job: Job) -> int:
    """The most engines that a run on this machine may have; 1 if unknown."""
    wanted = job.resources.workers
    if wanted != "auto":
        return wanted
    served = sum(len(one.each) for one in job.engines if one.served)
    simulated = sum(not (one.computes or one.served) for one in job.engines)
    if not job.computes:
        return served + simulated
    try:
        return max(1, len(offer().gpus)) + served + simulated
    except UsageError:  # reported where engines are chosen
        return 1


def local_groups(
    job: Job, most: int, spread: Spread, say: Callable[[str], None] = lambda line: None
) -> list[EngineGroup]:
    """The engines that a run of ``job`` starts on this machine, at most ``most``.

    ``spread``: how many cards one takes; cards left over or left out are reported through ``say``.
    Raises UsageError if the job asks for more engines than there are GPUs, or for other GPUs, and
    if the installed build of vLLM has nothing to run on.
    """
    several = len(job.engines) > 1
    groups: list[EngineGroup] = []
    for engine in job.engines:
        left = most - sum(group.number for group in groups)
        if left <= 0:
            break
        of_it = job.with_engine(engine)
        found = _servers(of_it, left) if engine.served else _own_groups(of_it, left, spread, say)
        for group in found:
            own = several and group.engine is None
            groups.append(replace(group, engine=engine) if own else group)
    return _sharing_the_processor(groups) if several else groups


def _servers(job: Job, most: int) -> list[EngineGroup]:
    """One for each server, or as many as the job wants, in turn; each is a group."""
    each, wanted = job.engine.each, job.resources.workers
    number = min(len(each) if wanted == "auto" else wanted, most)
    slots = [Slot(index, number, served=True) for index in range(number)]
    own = len(each) > 1
    return [
        EngineGroup(len(mine), None, one.name, tuple(mine), engine=one if own else None)
        for at, one in enumerate(each)
        if (mine := slots[at :: len(each)])
    ]


def _sharing_the_processor(groups: Sequence[EngineGroup]) -> list[EngineGroup]:
    """The ``groups``, where those that compute on this machine's processor get a share of it."""
    there = [g for g in groups if g.shared or (g.engine is not None and g.engine.started_here)]
    if not any(group.shared for group in there):
        return list(groups)
    of = sum(group.number for group in there)
    first, placed = 0, []
    for group in groups:
        slots = group.slots
        if group in there:
            slots = tuple(
                replace(slot, index=index, of=of) for index, slot in enumerate(slots, first)
            )
            first += group.number
        placed.append(replace(group, slots=slots))
    return placed


def _own_groups(
    job: Job, most: int, spread: Spread, say: Callable[[str], None]
) -> list[EngineGroup]:
    """Engines that are only processes of this machine."""
    wanted = job.resources.workers
    number = min(1 if wanted == "auto" else wanted, most)
    if not job.engine.computes:
        return [EngineGroup(number, None, slots=_beside_each_other(number))]
    there = offer()
    there.check()
    for reason in there.left:
        say(f"left out: {reason}")
    found = [gpu.card for gpu in there.gpus]
    if not found:
        check_wishes(job.resources, [])
        memory, processor = available_memory(), processor_name()
        card = cpu_card(memory, len(cores()), native_bf16=native_bf16())
        check_parts(job, number, len(cores()))
        name = processor_with(processor, len(cores()))
        return [EngineGroup(number, card, name, _beside_each_other(number))]
    check_wishes(job.resources, found)
    usable = {number: card for number, card in enumerate(found) if meets(job.resources, card)}
    refuse_spread(job.engine.tensor_parallel_size or 1, [list(usable.values())])
    slots, left = divide(usable, spread)
    if wanted != "auto" and wanted > len(slots):
        known, verb = plural(len(usable), "GPU"), "is" if len(usable) == 1 else "are"
        if len(slots) != len(usable):
            known += f", enough for {plural(len(slots), 'engine')}"
        raise UsageError(f"resources.workers: {wanted} engines, but there {verb} {known}")
    number = min(len(slots) if wanted == "auto" else wanted, most)
    groups = alike(engine_on(slot) for slot in slots[:number])
    for line in (*left, *said_of(job, groups)):
        say(line)
    return groups


def engine_on(cards: CardSlot, node: str | None = None, host: str = "") -> EngineGroup:
    """The engine of one slot."""
    slot = Slot(cards.cards[0], node=node, host=host, cards=cards.cards)
    return EngineGroup(1, cards.card, slots=(slot,), cards=len(cards.cards))


def alike(engines: Iterable[EngineGroup]) -> list[EngineGroup]:
    """``engines`` with those of one name as one group."""
    kinds: dict[str, list[EngineGroup]] = {}
    for one in engines:
        kinds.setdefault(one.name, []).append(one)
    return [
        replace(same[0], number=len(same), slots=tuple(slot for one in same for slot in one.slots))
        for same in kinds.values()
    ]


def said_of(job: Job, groups: Sequence[EngineGroup]) -> list[str]:
    """Lines that say how many cards an engine has, if the job does not say so itself."""
    if job.engine.tensor_parallel_size is not None:
        return []
    return [
        spread_in_words(group.card, group.cards, group.number)
        for group in groups
        if group.card is not None and group.cards > 1
    ]


def check_parts(job: Job, engines: int, cores: int) -> None:
    """Raise UsageError if the engines of ``job`` on a processor have too few of its cores."""
    parts = job.engine.tensor_parallel_size or 1
    if parts > 1 and parts * engines > cores:
        raise UsageError(
            f"engine.tensor_parallel_size: {parts} parts of an engine each need a core, "
            f"and there are {cores} cores for {plural(engines, 'engine')}",
            "leave it out: on a processor it gains nothing but where memory has several nodes",
        )


def processor_with(name: str, number: int) -> str:
    """The name of a processor with so many cores, used where cards have their names."""
    return f"{name}{_CORES}{number}"


def meets(wishes: Resources, card: Card) -> bool:
    """Whether ``card`` meets the job's wishes. Raises UsageError for unknown cards."""
    if wishes.gpu is not None and card.name not in [find_card(name).name for name in wishes.gpu]:
        return False
    return wishes.memory_gib is None or card.vram_bytes >= wishes.memory_gib * GIB * _BOX_SHARE


def check_wishes(wishes: Resources, cards: Sequence[Card]) -> None:
    """Raise UsageError if the job asks for cards and none of ``cards`` meets its wishes."""
    if wishes.gpu is None and wishes.memory_gib is None:
        return
    if any(meets(wishes, card) for card in cards):
        return
    asked = " or ".join(wishes.gpu or ("a card",))
    if wishes.memory_gib is not None:
        asked += f" with {wishes.memory_gib:g} GiB"
    kinds = ", ".join(sorted({card.title for card in cards})) or "no card at all"
    raise UsageError(f"resources: {asked} is asked for; there is {kinds}")


def asked_groups(
    job: Job, text: str, spread: Spread, say: Callable[[str], None] = lambda line: None
) -> list[EngineGroup]:
    """The engines on "4x rtx3090,2x rtx4090": one for each card, or for each slot that ``spread``
    forms of them (see ``asked_slots``). Raises UsageError."""
    engine = job.as_computed.engine if len(job.engines) > 1 else None
    job = job.as_computed
    slots, left = asked_slots(parse_gpus(text), spread, job.engine.tensor_parallel_size or 1)
    groups = [
        EngineGroup(number, card, cards=cards, engine=engine) for number, card, cards in slots
    ]
    for line in (*left, *said_of(job, groups)):
        say(line)
    return groups


def is_processor(name: str) -> bool:
    """Whether a group's name is that of engines without cards."""
    return name == NO_CARD or _CORES in name or SERVER in name


def _beside_each_other(number: int) -> tuple[Slot, ...]:
    return tuple(Slot(index, number) for index in range(number))
