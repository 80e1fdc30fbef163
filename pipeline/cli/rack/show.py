"""A rack as text and as JSON."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from pipeline.cli.terminal.console import OUT
from pipeline.cluster.rack_state.machines import Machine
from pipeline.engine.machine.card_reading import CardReading, Slowed
from pipeline.engine.machine.facts import MachineFacts
from pipeline.humanize import count, plural, size
from pipeline.service.rack.view import REQUEST_TOKENS, RackView, engine_cards

_HOST, _ADDRESS = 20, 17


def print_rack(view: RackView) -> None:
    machines = view.machines
    cards = sum(m.cards for m in machines)
    offered = f"{plural(len(machines), 'machine')}, {plural(cards, 'card')}"
    OUT.print(f"the rack of {view.address}: {offered}")
    for machine in machines:
        OUT.print(f"  {machine.host:<{_HOST}}{machine.node.address:<{_ADDRESS}}{_offer(machine)}")
        for reading in view.now.get(machine.node.id, ()):
            OUT.print(f"  {'':<{_HOST + _ADDRESS}}  {card_in_words(reading)}")
        for job, number in view.jobs_on(machine).items():
            OUT.print(f"  {'':<{_HOST + _ADDRESS}}  {job} on {number} of them")
    if not view.fits:
        return
    OUT.print()
    OUT.print(f"what fits, in int4 (requests of {count(REQUEST_TOKENS)} tokens at once):")
    for card, models in view.fits.items():
        listed = " · ".join(f"{name} ({count(requests)})" for name, requests in models)
        OUT.print(f"  {card:<{_HOST}}{listed or 'none'}")


def rack_as_json(view: RackView) -> dict[str, Any]:
    return {
        "address": view.address,
        "machines": [_as_json(machine, view) for machine in view.machines],
        "fits": {
            card: [{"model": name, "requests": requests} for name, requests in models]
            for card, models in view.fits.items()
        },
    }


def devices_in_words(facts: MachineFacts) -> str:
    """The cards of a machine, or its processor if it has none."""
    if not facts.devices:
        cores = plural(len(facts.cores), "core")
        return f"no GPU: {cores}, {size(facts.memory_bytes)} of RAM free ({facts.processor})"
    titles = [str(device.card) for device in facts.devices]
    told = ", ".join(f"{len(list(same))}x {title}" for title, same in groupby(titles))
    return f"{told}{', announced only' if facts.announced else ''}"


def card_in_words(card: CardReading) -> str:
    """A card's current state."""
    parts = []
    if card.lost:
        return f"card {card.index}, {card.title}: it has fallen off the bus: restart the machine"
    if card.watts is not None:
        limit = "" if card.limit_watts is None else f" of {card.limit_watts:.0f}"
        parts.append(f"{card.watts:.0f}{limit} W")
    if card.celsius is not None:
        parts.append(f"{card.celsius} °C")
    if card.use is not None:
        parts.append(f"{card.use:.0%} busy")
    if card.used_bytes is not None and card.total_bytes is not None:
        parts.append(f"{size(card.used_bytes)} of {size(card.total_bytes)} in use")
    why = [str(reason) for reason in card.slowed if reason is not Slowed.POWER] + [
        "an order to draw less power"
    ] * (Slowed.POWER in card.slowed and card.capped)
    if why:
        parts.append(f"slowed down by {' and '.join(why)}")
    return f"card {card.index}, {card.title}: {', '.join(parts) or 'it tells nothing'}"


def _offer(machine: Machine) -> str:
    role = " · head" if machine.node.is_head else ""
    if machine.facts is None:
        return f"{plural(machine.cards, 'card')}; nobody has looked closer yet{role}"
    own = machine.facts.engine
    engine = (
        ""
        if own is None
        else f" · engine: {' '.join(map(str, (own['kind'], own.get('url', ''))))}".rstrip()
    )
    return f"{devices_in_words(machine.facts)}{engine}{role}"


def _as_json(machine: Machine, view: RackView) -> dict[str, Any]:
    facts = machine.facts
    now = {card.index: card for card in view.now.get(machine.node.id, ())}
    return {
        "host": machine.host,
        "address": machine.node.address,
        "node": machine.node.id,
        "head": machine.node.is_head,
        "cards": [
            {
                "name": card.name,
                "memory_bytes": card.vram_bytes,
                "job": work.job
                if (work := view.slot_usage.get((machine.node.id, index)))
                else None,
                "model": work.model if work else None,
                "now": now[index].as_json() if index in now else None,
            }
            for index, card in enumerate(engine_cards(machine))
        ],
        "announced": bool(facts and facts.announced),
        "engine": dict(facts.engine) if facts and facts.engine else None,
        "cores": len(facts.cores) if facts else None,
        "memory_bytes": facts.memory_bytes if facts else None,
        "versions": dict(facts.versions) if facts else None,
    }
