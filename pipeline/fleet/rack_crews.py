"""Which engines a job gets on which machines of a rack. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from pipeline.budget.cards import Card, cpu_card
from pipeline.engine.facts import MachineFacts, own_versions, version_conflicts
from pipeline.errors import NoCard, UsageError
from pipeline.fleet.allotment import Key
from pipeline.fleet.crew import Crew, Place, check_wishes, meets, processor_with
from pipeline.fleet.machines import Machine
from pipeline.spec.job import Job


@dataclass(frozen=True)
class Post:
    """One engine's place. ``card`` None: a simulated engine's; ``model``: a processor's name."""

    card: Card | None
    place: Place
    model: str = ""


def posts(
    job: Job,
    machines: Sequence[Machine],
    versions: Mapping[str, str],
    allotted: Collection[Key] | None = None,
) -> tuple[list[Post], list[str]]:
    """All places for engines of ``job`` on ``machines``, the fastest cards first, and what is left
    out, with the reason. ``versions``: the driver's; ``allotted``: only these cards.

    Cards go before processors: those work only where no machine has a card.
    """
    able: list[tuple[Machine, MachineFacts]] = []
    left_out: list[str] = []
    for machine in machines:
        if machine.facts is None or not machine.works:
            continue
        conflicts = version_conflicts(versions, machine.facts.versions)
        if conflicts:
            left_out.append(f"left out: {machine.host}: {'; '.join(conflicts)}")
        elif machine.facts.announced and job.engine.kind != "simulated":
            left_out.append(
                f"left out: {machine.host}: its cards are announced only, for rehearsals"
            )
        else:
            able.append((machine, machine.facts))
    found = [
        Post(device.card, Place(index, node=machine.node.id, host=machine.host))
        for machine, facts in able
        for index, device in enumerate(facts.devices[: machine.cards])
    ]
    if found:
        wanted = [p for p in found if p.card is not None and meets(job.resources, p.card)]
        chosen = sorted(wanted, key=_speed)
    elif job.resources.gpu is not None or job.resources.memory_gib is not None:
        chosen = []
    else:
        chosen = _on_processors(job, able)
    if allotted is not None:
        chosen = [post for post in chosen if post.place.key in allotted]
    return chosen, left_out


def rack_crews(
    job: Job,
    machines: Sequence[Machine],
    units: int,
    say: Callable[[str], None],
    allotted: Collection[Key] | None = None,
) -> list[Crew]:
    """The engines that a run of ``job`` gets on ``machines``, at most one for each unit. What is
    left out is said. Raises UsageError where none of them can work on it, NoCard where the cards
    that are ``allotted`` to it are gone."""
    found, left_out = posts(job, machines, own_versions(), allotted)
    for line in left_out:
        say(line)
    if not found and allotted is not None:
        raise NoCard("the cards that the job had are gone")
    if not found:
        cards = [device.card for m in machines if m.facts for device in m.facts.devices]
        check_wishes(job.resources, cards)
        raise UsageError(
            "no machine of the rack can work on the job",
            *left_out,
            "see them: rackmill rack show",
        )
    return crews_of(found[: max(1, min(most(job) or len(found), units))])


def crews_of(chosen: Sequence[Post]) -> list[Crew]:
    """``chosen`` by kind of card."""
    kinds: dict[str, list[Post]] = {}
    for post in chosen:
        kinds.setdefault(_kind(post), []).append(post)
    return [
        Crew(len(same), same[0].card, same[0].model, tuple(post.place for post in same))
        for same in kinds.values()
    ]


def most(job: Job) -> int | None:
    """How many engines the job wants at most; None: as many as there are cards."""
    wanted = job.resources.workers
    return None if wanted == "auto" else wanted


def _on_processors(job: Job, able: Sequence[tuple[Machine, MachineFacts]]) -> list[Post]:
    number = most(job) or len(able)
    found = []
    for at in range(number if able else 0):
        machine, facts = able[at % len(able)]
        of = number // len(able) + (at % len(able) < number % len(able))
        place = Place(
            at // len(able), of, machine.node.id, machine.host, facts.cores, facts.preloads
        )
        cores = len(facts.cores)
        simulated = job.engine.kind == "simulated"
        card = None if simulated else cpu_card(facts.memory_bytes, cores)
        found.append(Post(card, place, "" if simulated else processor_with(facts.processor, cores)))
    return found


def _speed(post: Post) -> tuple[float, str, int]:
    bandwidth = post.card.bandwidth if post.card else 0.0
    return -bandwidth, post.place.host, post.place.index


def _kind(post: Post) -> str:
    if post.card is None:
        return ""
    return f"{post.model}, {post.place.of}" if post.card.is_cpu else post.card.name
