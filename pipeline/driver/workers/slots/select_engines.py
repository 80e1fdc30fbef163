"""Which engines a job gets on which machines of a rack. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from pipeline.budget.cards.lookup import Card, cpu_card, in_slot
from pipeline.cluster.card_slots import CardSlot, Spread, divide, refuse_spread
from pipeline.cluster.engine_groups import (
    EngineGroup,
    Slot,
    check_parts,
    check_wishes,
    meets,
    processor_with,
    said_of,
)
from pipeline.cluster.rack_state.allocation import Key
from pipeline.cluster.rack_state.machines import Machine
from pipeline.driver.workers.slots.servers import Candidate, server_candidates
from pipeline.engine.machine.facts import MachineFacts, own_versions, version_conflicts
from pipeline.errors import NoCard, UsageError
from pipeline.job.job import Job


def candidates(
    job: Job,
    machines: Sequence[Machine],
    versions: Mapping[str, str],
    spread: Spread,
    allotted: Collection[Key] | None = None,
) -> tuple[list[Candidate], list[str]]:
    """All slots for engines of ``job`` on ``machines``, the fastest cards first, and what is left
    out, with the reason. ``versions``: the driver's; ``spread``: how many cards an engine takes;
    ``allotted``: only slots whose cards are all among these.

    Cards go before processors: those are used only where no machine has a card. Servers come last.
    """
    there = [(machine, machine.facts) for machine in machines if machine.works and machine.facts]
    chosen: list[Candidate] = []
    left_out: list[str] = []
    for engine in job.engines:
        if not engine.served:
            own = engine if job.resources.mixed else None
            found, left = _own_engines(job.with_engine(engine), there, versions, spread)
            chosen += [replace(one, engine=own) for one in found]
            left_out += left
    found, left = server_candidates(job, there, versions)
    chosen += found
    left_out += left
    if allotted is not None:
        chosen = [candidate for candidate in chosen if candidate.slot.is_among(allotted)]
    return chosen, list(dict.fromkeys(left_out))


def _own_engines(
    job: Job,
    machines: Sequence[tuple[Machine, MachineFacts]],
    versions: Mapping[str, str],
    spread: Spread,
) -> tuple[list[Candidate], list[str]]:
    """Of engines that are not servers."""
    able: list[tuple[Machine, MachineFacts]] = []
    left_out: list[str] = []
    for machine, facts in machines:
        why = ""
        if facts.engine is not None and job.engine.computes:
            if not job.resources.mixed:
                kind = facts.engine["kind"]
                why = f"its engine is {kind}: resources.mixed: true takes it beside others"
        elif conflicts := version_conflicts(versions, facts.versions):
            why = "; ".join(conflicts)
        elif facts.announced and job.engine.computes:
            why = "its cards are announced only, for rehearsals"
        elif facts.trouble and job.engine.computes:
            why = "; ".join(facts.trouble)
        else:
            able.append((machine, facts))
        if why:
            left_out.append(f"left out: {machine.host}: {why}")
    there = [(machine, cards_of(machine)) for machine, _ in able]
    chosen: list[Candidate] = []
    if any(cards for _, cards in there):
        for machine, cards in there:
            usable = {n: card for n, card in enumerate(cards) if meets(job.resources, card)}
            slots, left = divide(usable, spread)
            chosen += [Candidate(slot.card, _slot_on(machine, slot)) for slot in slots]
            left_out += [f"left out: {machine.host}: {one}" for one in left]
        chosen.sort(key=_speed)
    elif job.resources.gpu is not None or job.resources.memory_gib is not None:
        chosen = []
    else:
        chosen = _on_processors(job, able)
    return chosen, left_out


def rack_groups(
    job: Job,
    machines: Sequence[Machine],
    number: int,
    spread: Spread,
    say: Callable[[str], None],
    allotted: Collection[Key] | None = None,
) -> list[EngineGroup]:
    """The engines that a run of ``job`` gets on ``machines``, ``number`` of them at most. Says what
    is left out. Raises UsageError where none of them can work on it, NoCard where the cards that
    are ``allotted`` to it are gone."""
    found, left_out = candidates(job, machines, own_versions(), spread, allotted)
    for line in left_out:
        say(line)
    if not found and allotted is not None:
        raise NoCard("the cards that the job had are gone")
    if not found:
        cards = [device.card for m in machines if m.facts for device in m.facts.devices]
        check_wishes(job.resources, cards)
        refuse_spread(job.engine.tensor_parallel_size or 1, [cards_of(m) for m in machines])
        raise UsageError(
            "no machine of the rack can work on the job",
            *left_out,
            "see them: rackmill rack show",
        )
    groups = groups_of(found[: min(most(job) or len(found), number)])
    for line in said_of(job, groups):
        say(line)
    return groups


def groups_of(chosen: Sequence[Candidate]) -> list[EngineGroup]:
    """``chosen`` by kind of card."""
    kinds: dict[str, list[Candidate]] = {}
    for candidate in chosen:
        kinds.setdefault(_kind(candidate), []).append(candidate)
    return [
        EngineGroup(
            len(same),
            same[0].card,
            same[0].model,
            tuple(candidate.slot for candidate in same),
            same[0].cards,
            same[0].engine,
        )
        for same in kinds.values()
    ]


def cards_of(machine: Machine) -> list[Card]:
    """Those that Ray gives to engines there, in the machine's order."""
    if machine.facts is None:
        return []
    return [device.card for device in machine.facts.devices[: machine.cards]]


def _slot_on(machine: Machine, slot: CardSlot) -> Slot:
    return Slot(slot.cards[0], node=machine.node.id, host=machine.host, cards=slot.cards)


def most(job: Job) -> int | None:
    """How many engines the job wants at most; None: as many as there are cards."""
    wanted = job.resources.workers
    return None if wanted == "auto" else wanted


def _on_processors(job: Job, able: Sequence[tuple[Machine, MachineFacts]]) -> list[Candidate]:
    number = most(job) or len(able)
    found = []
    for at in range(number if able else 0):
        machine, facts = able[at % len(able)]
        of = number // len(able) + (at % len(able) < number % len(able))
        slot = Slot(at // len(able), of, machine.node.id, machine.host, facts.cores, facts.preloads)
        cores = len(facts.cores)
        check_parts(job, of, cores)
        if job.engine.computes:
            processor = cpu_card(facts.memory_bytes, cores, native_bf16=facts.native_bf16)
            found.append(Candidate(processor, slot, processor_with(facts.processor, cores)))
        else:
            found.append(Candidate(None, slot))
    return found


def _speed(candidate: Candidate) -> tuple[float, str, int]:
    bandwidth = candidate.card.bandwidth * candidate.cards if candidate.card else 0.0
    return -bandwidth, candidate.slot.host, candidate.slot.index


def _kind(candidate: Candidate) -> str:
    if candidate.card is None:
        return candidate.model
    if candidate.card.is_cpu:
        return f"{candidate.model}, {candidate.slot.of}"
    return in_slot(candidate.card.name, candidate.cards)
