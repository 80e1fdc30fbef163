"""What is in a rack, as it is shown: machines, what they offer, what fits on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.budget.cards import Card, cpu_card
from pipeline.budget.fit import FitOptions, Subject, fit
from pipeline.engine.card_reading import CardReading
from pipeline.fleet.allotment import Key
from pipeline.fleet.at_work import AtWork, at_work
from pipeline.fleet.card_calls import ask_for_cards
from pipeline.fleet.gcs import Gcs
from pipeline.fleet.machines import MACHINE, Machine, machines
from pipeline.model.catalogue import MODELS

REQUEST_TOKENS = 4096


@dataclass(frozen=True)
class RackView:
    """``fits``: by the name of a card, the catalogue's models in int4 that fit on it, the largest
    first, each with how many requests of ``REQUEST_TOKENS`` it then holds at once. ``at_work``: by
    card. ``now``: how the cards are, by Ray's number of the machine, as far as it told."""

    address: str
    machines: tuple[Machine, ...]
    fits: Mapping[str, tuple[tuple[str, int], ...]]
    at_work: Mapping[Key, AtWork] = field(default_factory=dict)
    now: Mapping[str, tuple[CardReading, ...]] = field(default_factory=dict)

    def jobs_on(self, machine: Machine) -> dict[str, int]:
        """The jobs at work there, each with the number of its cards."""
        works = [work for (node, _), work in self.at_work.items() if node == machine.node.id]
        return dict(Counter(work.job for work in works))


def look(gcs: Gcs) -> RackView:
    """Raises HeadGone."""
    found = machines(gcs)
    kinds = {card.name: card for machine in found for card in cards_of(machine)}
    fits = {name: _fitting(card) for name, card in kinds.items()}
    kept = gcs.all([MACHINE + machine.node.name for machine in found])
    ids = {machine.node.name: machine.node.id for machine in found}
    told = ask_for_cards(gcs, [name.removeprefix(MACHINE) for name in kept])
    now = {ids[name]: cards for name, cards in told.items()}
    return RackView(gcs.address, tuple(found), fits, at_work(gcs), now)


def cards_of(machine: Machine) -> list[Card]:
    """What engines run on there: its cards, else its processor."""
    facts = machine.facts
    if facts is None:
        return []
    if facts.devices:
        return [device.card for device in facts.devices]
    return [cpu_card(facts.memory_bytes, len(facts.cores))]


def _fitting(card: Card) -> tuple[tuple[str, int], ...]:
    found = []
    for model in sorted(MODELS.values(), key=lambda m: -m.geometry.layers):
        verdict = fit(Subject.of(model, "int4"), card, FitOptions(context=REQUEST_TOKENS))
        if verdict.fits:
            found.append((model.name, verdict.max_requests[REQUEST_TOKENS]))
    return tuple(found)
