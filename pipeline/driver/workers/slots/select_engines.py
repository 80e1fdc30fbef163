"""Which engines a job gets on which machines of a rack: those of cards and processors, and servers,
of the job and of the machines. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from pipeline.budget.cards.lookup import Card, cpu_card
from pipeline.cluster.card_slots import Spread, divide, refuse_spread
from pipeline.cluster.engine_groups import (
    EngineGroup,
    Slot,
    alike,
    check_parts,
    check_wishes,
    engine_on,
    meets,
    processor_with,
    said_of,
)
from pipeline.cluster.rack_state.allocation import Key
from pipeline.cluster.rack_state.machines import Machine
from pipeline.engine.machine.facts import VLLM, MachineFacts, own_versions, version_conflicts
from pipeline.errors import NoCard, UsageError
from pipeline.job.engine import EngineSettings
from pipeline.job.job import Job


def candidates(
    job: Job,
    machines: Sequence[Machine],
    versions: Mapping[str, str],
    spread: Spread,
    allotted: Collection[Key] | None = None,
) -> tuple[list[EngineGroup], list[str]]:
    """All engines that ``job`` may have on ``machines``, each a group of its own, the fastest cards
    first, and what is left out, with the reason. ``versions``: the driver's; ``spread``: how many
    cards an engine takes; ``allotted``: only slots whose cards are all among these.

    Cards go before processors: those are used only where no machine has a card. Servers come last.
    """
    there = [(machine, machine.facts) for machine in machines if machine.works and machine.facts]
    chosen: list[EngineGroup] = []
    left_out: list[str] = []
    for engine in job.engines:
        if not engine.served:
            own = engine if job.resources.mixed else None
            found, left = _own_engines(job.with_engine(engine), there, versions, spread)
            chosen += [replace(one, engine=own) for one in found]
            left_out += left
    found, left = _servers(job, there, versions)
    chosen += found
    left_out += left
    if allotted is not None:
        chosen = [one for one in chosen if one.slots[0].is_among(allotted)]
    return chosen, list(dict.fromkeys(left_out))


def _own_engines(
    job: Job,
    machines: Sequence[tuple[Machine, MachineFacts]],
    versions: Mapping[str, str],
    spread: Spread,
) -> tuple[list[EngineGroup], list[str]]:
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
    chosen: list[EngineGroup] = []
    if any(cards for _, cards in there):
        for machine, cards in there:
            usable = {n: card for n, card in enumerate(cards) if meets(job.resources, card)}
            slots, left = divide(usable, spread)
            chosen += [engine_on(slot, machine.node.id, machine.host) for slot in slots]
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
    groups = alike(found[: min(most(job) or len(found), number)])
    for line in said_of(job, groups):
        say(line)
    return groups


def cards_of(machine: Machine) -> list[Card]:
    """Those that Ray gives to engines there, in the machine's order."""
    if machine.facts is None:
        return []
    return [device.card for device in machine.facts.devices[: machine.cards]]


def most(job: Job) -> int | None:
    """How many engines the job wants at most; None: as many as there are cards."""
    wanted = job.resources.workers
    return None if wanted == "auto" else wanted


def _on_processors(job: Job, able: Sequence[tuple[Machine, MachineFacts]]) -> list[EngineGroup]:
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
            found.append(EngineGroup(1, processor, processor_with(facts.processor, cores), (slot,)))
        else:
            found.append(EngineGroup(1, None, slots=(slot,)))
    return found


def _speed(engine: EngineGroup) -> tuple[float, str, int]:
    bandwidth = engine.card.bandwidth * engine.cards if engine.card else 0.0
    return -bandwidth, engine.slots[0].host, engine.slots[0].index


def _servers(
    job: Job, machines: Sequence[tuple[Machine, MachineFacts]], versions: Mapping[str, str]
) -> tuple[list[EngineGroup], list[str]]:
    """One slot for each server of ``job`` (or as many as it wants, in turn), and for the engine of
    each machine that brought its own; and what is left out, with the reason.

    A worker that only asks a server has little to do, and runs on the first machine. llama.cpp is
    started on every machine that has no card for vLLM.
    """
    hosts, left_out = [], []
    for machine, facts in machines:
        # vLLM may be missing where it works on nothing
        conflicts = version_conflicts(versions, facts.versions, but=(VLLM,))
        if conflicts:
            left_out.append(f"left out: {machine.host}: {'; '.join(conflicts)}")
        else:
            hosts.append((machine, facts))
    found: list[EngineGroup] = []
    for engine in job.engines:
        if engine.served:
            found += _of_the_job(job, engine, hosts, len(found))
    for machine, facts in hosts:
        own = None if facts.engine is None else EngineSettings.model_validate(facts.engine)
        if own is not None and (job.resources.mixed or own.kind == job.engine.kind):
            found += [
                _server(one, machine, facts, len(found) + at) for at, one in enumerate(own.each)
            ]
    return found, left_out


def _of_the_job(
    job: Job,
    engine: EngineSettings,
    hosts: Sequence[tuple[Machine, MachineFacts]],
    first: int,
) -> list[EngineGroup]:
    free = [(machine, facts) for machine, facts in hosts if facts.engine is None]
    if engine.started_here:
        beside = any(one.computes for one in job.engines)
        places = [at for at in free if not (beside and at[1].devices)]
    else:
        places = free[:1]
    wanted = job.resources.workers
    asked = engine.each if not engine.started_here else (engine,) * len(places)
    number = len(asked) if wanted == "auto" else wanted
    return [
        _server(one, machine, facts, first + at)
        for at in range(number if places and asked else 0)
        for one in (asked[at % len(asked)],)
        for machine, facts in (places[at % len(places)],)
    ]


def _server(
    engine: EngineSettings, machine: Machine, facts: MachineFacts, index: int
) -> EngineGroup:
    slot = Slot(index, 1, machine.node.id, machine.host, facts.cores, served=True)
    return EngineGroup(1, None, engine.name, (slot,), engine=engine)
