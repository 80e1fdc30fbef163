"""Which servers, of a job and of a rack's machines, become its engines, and on which machine the
worker of each runs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.budget.cards.lookup import Card
from pipeline.cluster.engine_groups import Slot
from pipeline.cluster.rack_state.machines import Machine
from pipeline.engine.machine.facts import VLLM, MachineFacts, version_conflicts
from pipeline.job.engine import EngineSettings
from pipeline.job.job import Job


@dataclass(frozen=True)
class Candidate:
    """One engine's slot. ``card`` None: a simulated engine's, or a server; ``model``: a processor's
    name, or a server's; ``engine``: where the job has several."""

    card: Card | None
    slot: Slot
    model: str = ""
    engine: EngineSettings | None = None

    @property
    def cards(self) -> int:
        """The cards that the engine has there."""
        return max(1, len(self.slot.cards))


def server_candidates(
    job: Job, machines: Sequence[tuple[Machine, MachineFacts]], versions: Mapping[str, str]
) -> tuple[list[Candidate], list[str]]:
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
    found: list[Candidate] = []
    for engine in job.engines:
        if engine.served:
            found += _of_the_job(job, engine, hosts, len(found))
    for machine, facts in hosts:
        own = None if facts.engine is None else EngineSettings.model_validate(facts.engine)
        if own is not None and (job.resources.mixed or own.kind == job.engine.kind):
            found += [
                Candidate(None, _slot(machine, facts, len(found) + at), one.name, one)
                for at, one in enumerate(own.each)
            ]
    return found, left_out


def _of_the_job(
    job: Job,
    engine: EngineSettings,
    hosts: Sequence[tuple[Machine, MachineFacts]],
    first: int,
) -> list[Candidate]:
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
        Candidate(None, _slot(machine, facts, first + at), one.name, one)
        for at in range(number if places and asked else 0)
        for one in (asked[at % len(asked)],)
        for machine, facts in (places[at % len(places)],)
    ]


def _slot(machine: Machine, facts: MachineFacts, index: int) -> Slot:
    return Slot(index, 1, machine.node.id, machine.host, facts.cores, served=True)
