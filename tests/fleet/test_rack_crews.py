"""Which machines of a rack get engines, for which jobs; and what changes while one runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline import Job, UsageError
from pipeline.budget.cards import find_card
from pipeline.engine.facts import DeviceFacts, MachineFacts
from pipeline.fleet.gcs import Node
from pipeline.fleet.machines import Machine
from pipeline.fleet.rack_crews import posts, rack_crews
from tests.samples import job as any_job

VERSIONS = {"python": "3.11.7", "ray": "2.60.0", "vllm": "0.32.0", "rackmill": "0.1.0"}


def machine(name: str, *cards: str, cores: int = 4, **versions: str) -> Machine:
    devices = tuple(
        DeviceFacts(card.title, card.vram_bytes, card.compute_capability)
        for card in map(find_card, cards)
    )
    facts = MachineFacts(
        name, devices, tuple(range(cores)), 16 << 30, "a processor", (), VERSIONS | versions
    )
    resources = {"CPU": float(cores), "GPU": float(len(cards))}
    return Machine(Node(f"id-{name}", name, "10.0.0.1", True, False, resources), facts)


def job(**resources: object) -> Job:
    return any_job(resources=resources)


def hosts(asked: Job, *machines: Machine) -> list[tuple[str, int]]:
    return [(p.place.host, p.place.index) for p in posts(asked, machines, VERSIONS)[0]]


def test_every_card_gets_an_engine_the_fastest_first() -> None:
    found = hosts(job(), machine("a", "rtx3060"), machine("b", "rtx4090", "rtx4090"))

    assert found == [("b", 0), ("b", 1), ("a", 0)]


def test_processors_work_only_where_no_machine_has_a_card() -> None:
    assert hosts(job(), machine("a"), machine("b", "rtx3090")) == [("b", 0)]
    assert hosts(job(), machine("a"), machine("b")) == [("a", 0), ("b", 0)]


def test_engines_on_processors_are_spread_over_the_machines() -> None:
    found, _ = posts(job(workers=3), [machine("a"), machine("b")], VERSIONS)

    assert [(p.place.host, p.place.index, p.place.of) for p in found] == [
        ("a", 0, 2),
        ("b", 0, 1),
        ("a", 1, 2),
    ]


def test_a_job_gets_only_the_cards_that_it_asks_for() -> None:
    machines = machine("a", "rtx3060"), machine("b", "rtx4090", "rtx3090")

    assert hosts(job(gpu=["RTX 3060", "rtx3090"]), *machines) == [("b", 1), ("a", 0)]
    assert hosts(job(memory_gib=24), *machines) == [("b", 0), ("b", 1)]


def test_cards_that_nobody_has_are_an_error() -> None:
    with pytest.raises(UsageError, match="rtx5090 is asked for; there is RTX 3060"):
        rack_crews(job(gpu="rtx5090"), [machine("a", "rtx3060")], 9, print)


def test_a_card_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(UsageError, match="unknown card 'rtx9999'"):
        rack_crews(job(gpu="rtx9999"), [machine("a", "rtx3060")], 9, print)


@pytest.mark.parametrize(
    ("package", "other", "says"),
    [
        ("python", "3.12.1", "Python 3.11 here, 3.12 there"),
        ("ray", "2.59.0", "Ray 2.60.0 here, 2.59.0 there"),
        ("vllm", "0.31.0", "vLLM 0.32.0 here, 0.31.0 there"),
        ("rackmill", "0.2.0", "rackmill 0.1.0 here, 0.2.0 there"),
    ],
)
def test_a_machine_with_other_versions_is_left_out(package: str, other: str, says: str) -> None:
    said: list[str] = []
    machines = [machine("a", "rtx3090", **{package: other}), machine("b", "rtx3090")]

    crews = rack_crews(job(), machines, 9, said.append)

    assert [place.host for crew in crews for place in crew.places] == ["b"]
    assert said == [f"left out: a: {says}"]


def test_another_patch_of_python_is_no_other_version() -> None:
    assert hosts(job(), machine("a", "rtx3090", python="3.11.9")) == [("a", 0)]


def test_announced_cards_are_for_simulated_engines_alone() -> None:
    real = machine("a", "rtx3090")
    assert real.facts is not None
    announced = Machine(real.node, replace(real.facts, announced=True))
    rehearsal = job().model_copy(
        update={"engine": job().engine.model_copy(update={"kind": "simulated"})}
    )

    assert hosts(job(), announced) == []
    assert hosts(rehearsal, announced) == [("a", 0)]


def test_a_rack_on_which_nobody_can_work_is_an_error() -> None:
    with pytest.raises(UsageError, match="no machine of the rack can work on the job"):
        rack_crews(job(), [machine("a", "rtx3090", ray="1.0")], 9, lambda line: None)


def test_there_are_no_more_engines_than_units() -> None:
    crews = rack_crews(job(), [machine("a", "rtx3090", "rtx3090", "rtx4090")], 2, print)

    assert [(crew.name, crew.number) for crew in crews] == [("rtx4090", 1), ("rtx3090", 1)]


def test_facts_travel_as_text() -> None:
    facts = machine("a", "rtx3090").facts
    assert facts is not None

    assert MachineFacts.decode(facts.encode()) == facts


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b'{"devices": [1]}'])
def test_what_is_no_facts_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):
        MachineFacts.decode(content)
