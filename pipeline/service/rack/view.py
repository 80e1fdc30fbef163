"""What `rackmill rack show` shows of a rack: machines, what they offer, what fits on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from pipeline.budget.cards.lookup import Card, cpu_card, in_slot
from pipeline.budget.fit.assess import bare_fit
from pipeline.budget.model_spec import FitOptions, ModelSpec
from pipeline.budget.tensor_parallel import cards_needed
from pipeline.cluster.rack_state.allocation import Key
from pipeline.cluster.rack_state.card_readings import ask_for_cards
from pipeline.cluster.rack_state.gcs import Gcs
from pipeline.cluster.rack_state.machines import MACHINE, Machine, machines
from pipeline.cluster.rack_state.slot_usage import SlotUsage, slot_usage
from pipeline.engine.machine.card_reading import CardReading
from pipeline.model.catalogue import MODELS

REQUEST_TOKENS = 4096


@dataclass(frozen=True)
class RackView:
    """``fits``: for each card, by its name, the catalogue's models in int4 that fit on it, the
    largest first, each with how many requests of ``REQUEST_TOKENS`` it then holds at once; and for
    each slot ("2x rtx3060") the models that need all of its cards. ``slot_usage``: by card.
    ``now``: the state of the cards, by Ray's id of the machine, if it answered."""

    address: str
    machines: tuple[Machine, ...]
    fits: Mapping[str, tuple[tuple[str, int], ...]]
    slot_usage: Mapping[Key, SlotUsage] = field(default_factory=dict)
    now: Mapping[str, tuple[CardReading, ...]] = field(default_factory=dict)

    def jobs_on(self, machine: Machine) -> dict[str, int]:
        """The jobs that run there, each with the number of its cards."""
        works = [work for (node, _), work in self.slot_usage.items() if node == machine.node.id]
        return dict(Counter(work.job for work in works))


def look(gcs: Gcs) -> RackView:
    """Raises HeadGone."""
    found = machines(gcs)
    kept = gcs.all([MACHINE + machine.node.name for machine in found])
    ids = {machine.node.name: machine.node.id for machine in found}
    told = ask_for_cards(gcs, [name.removeprefix(MACHINE) for name in kept])
    now = {ids[name]: cards for name, cards in told.items()}
    return RackView(gcs.address, tuple(found), what_fits(found), slot_usage(gcs), now)


def what_fits(machines: Iterable[Machine]) -> dict[str, tuple[tuple[str, int], ...]]:
    """``RackView.fits`` of these machines."""
    kinds: dict[str, tuple[Card, int]] = {}  # with the most that one machine has
    for machine in machines:
        names = [card.name for card in engine_cards(machine)]
        for card in engine_cards(machine):
            alike = max(names.count(card.name), kinds.get(card.name, (card, 0))[1])
            kinds[card.name] = (card, alike)
    fits: dict[str, tuple[tuple[str, int], ...]] = {}
    for card, alike in kinds.values():
        fits |= _fitting(card, alike)
    return fits


def engine_cards(machine: Machine) -> list[Card]:
    """What engines run on in this machine: its cards, else its processor."""
    facts = machine.facts
    if facts is None:
        return []
    if facts.devices:
        return [device.card for device in facts.devices]
    return [cpu_card(facts.memory_bytes, len(facts.cores), native_bf16=facts.native_bf16)]


def _fitting(card: Card, alike: int) -> dict[str, tuple[tuple[str, int], ...]]:
    """The models that fit, by the name of the smallest slot that holds them."""
    found: dict[str, list[tuple[str, int]]] = {card.name: []}
    options = FitOptions(context=REQUEST_TOKENS)
    for model in sorted(MODELS.values(), key=lambda m: -m.geometry.layers):
        spec = ModelSpec.of(model, "int4")
        cards = 1 if card.is_cpu else cards_needed(spec, card, options, alike)
        fit = bare_fit(spec, card, replace(options, cards=cards))
        if fit.fits:
            slot = in_slot(card.name, cards)
            found.setdefault(slot, []).append((model.name, fit.max_requests[REQUEST_TOKENS]))
    return {slot: tuple(models) for slot, models in found.items()}
