"""Which machines of a rack get engines, for which jobs; and what changes while one runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline import Job, UsageError
from pipeline.budget.cards.lookup import find_card
from pipeline.cluster.card_slots import known_model, spread_of
from pipeline.cluster.engine_groups import EngineGroup
from pipeline.cluster.rack_state.gcs import Node
from pipeline.cluster.rack_state.machines import Machine
from pipeline.driver.workers.slots.select_engines import candidates, rack_groups
from pipeline.engine.gpu.nvml import DeviceFacts
from pipeline.engine.machine.facts import MachineFacts
from tests.support.samples import job as any_job

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


def found_slots(asked: Job, *machines: Machine) -> tuple[list[EngineGroup], list[str]]:
    return candidates(asked, machines, VERSIONS, spread_of(asked, None))


def hosts(asked: Job, *machines: Machine) -> list[tuple[str, int]]:
    return [(p.slots[0].host, p.slots[0].index) for p in found_slots(asked, *machines)[0]]


def groups(
    asked: Job, machines: list[Machine], units: int = 9, say: Any = print
) -> list[EngineGroup]:
    return rack_groups(asked, machines, units, spread_of(asked, None), say)


def test_every_card_gets_an_engine_the_fastest_first() -> None:
    found = hosts(job(), machine("a", "rtx3060"), machine("b", "rtx4090", "rtx4090"))

    assert found == [("b", 0), ("b", 1), ("a", 0)]


def test_processors_work_only_where_no_machine_has_a_card() -> None:
    assert hosts(job(), machine("a"), machine("b", "rtx3090")) == [("b", 0)]
    assert hosts(job(), machine("a"), machine("b")) == [("a", 0), ("b", 0)]


def test_a_machine_whose_build_of_vllm_has_no_card_is_left_out_with_the_reason() -> None:
    broken = machine("a")
    assert broken.facts is not None
    broken = replace(broken, facts=replace(broken.facts, trouble=("the driver is broken: reboot",)))

    assert found_slots(job(), broken, machine("b"))[1] == [
        "left out: a: the driver is broken: reboot"
    ]
    assert hosts(job(), broken, machine("b")) == [("b", 0)]
    assert hosts(any_job(engine={"kind": "simulated"}), broken) == [("a", 0)]


def test_engines_on_processors_are_spread_over_the_machines() -> None:
    found, _ = found_slots(job(workers=3), machine("a"), machine("b"))

    assert [(p.host, p.index, p.of) for one in found for p in one.slots] == [
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
        groups(job(gpu="rtx5090"), [machine("a", "rtx3060")])


def test_a_card_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(UsageError, match="unknown card 'rtx9999'"):
        groups(job(gpu="rtx9999"), [machine("a", "rtx3060")])


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

    found = groups(job(), machines, say=said.append)

    assert [place.host for group in found for place in group.slots] == ["b"]
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
        groups(job(), [machine("a", "rtx3090", ray="1.0")])


def test_there_are_no_more_engines_than_units() -> None:
    found = groups(job(), [machine("a", "rtx3090", "rtx3090", "rtx4090")], 2)

    assert [(group.name, group.number) for group in found] == [("rtx4090", 1), ("rtx3090", 1)]


class TestSlotsOfSeveralCards:
    def job(self, cards: int = 2, **resources: object) -> Job:
        return any_job(engine={"tensor_parallel_size": cards}, resources=resources)

    def test_they_are_like_neighbours_in_one_machine(self) -> None:
        machines = [
            machine("a", "rtx3060", "rtx4090", "rtx3060", "rtx3060", "rtx3060"),
            machine("b", "rtx3060", "rtx3060"),
        ]
        [group] = groups(self.job(), machines)

        assert (group.name, group.number, group.cards, group.all_cards) == ("2x rtx3060", 3, 2, 6)
        assert [(place.host, place.cards) for place in group.slots] == [
            ("a", (0, 2)),
            ("a", (3, 4)),
            ("b", (0, 1)),
        ]

    def test_cards_left_over_are_said(self) -> None:
        said: list[str] = []
        groups(self.job(), [machine("a", "rtx3060", "rtx3060", "rtx3060")], say=said.append)

        assert said == ["left out: a: 1x RTX 3060 left over: an engine takes 2 alike"]

    def test_one_with_a_card_of_another_job_is_none(self) -> None:
        asked, there = self.job(), [machine("a", *["rtx3060"] * 4)]
        allotted = {("id-a", 0), ("id-a", 1), ("id-a", 3)}
        found, _ = candidates(asked, there, VERSIONS, spread_of(asked, None), allotted)

        assert [one.slots[0].keys for one in found] == [{("id-a", 0), ("id-a", 1)}]

    @pytest.mark.parametrize(
        ("machines", "there"),
        [
            ([machine("a", "rtx3060", "rtx3090")], "1x RTX 3060 and 1x RTX 3090"),
            ([machine("a", "rtx3060"), machine("b", "rtx3060")], "1x RTX 3060"),
            ([machine("a", "rtx3060"), machine("b", "rtx4090")], "1x RTX 3060; 1x RTX 4090"),
        ],
    )
    def test_where_no_machine_has_so_many_alike_that_is_an_error(
        self, machines: list[Machine], there: str
    ) -> None:
        with pytest.raises(UsageError) as error:
            groups(self.job(), machines)

        assert error.value.message == (
            "engine.tensor_parallel_size: 2 like cards of one machine are asked for; "
            f"there are {there}"
        )
        assert error.value.hints

    def test_a_model_that_fits_no_card_gets_as_many_as_hold_it(self) -> None:
        asked = any_job(model="gemma-3-27b", engine={"max_model_len": 512})
        spread = spread_of(asked, known_model("gemma-3-27b"))
        said: list[str] = []
        there = [machine("a", *["rtx3060"] * 3), machine("b", "rtx3090"), machine("c", "rtx3060")]
        found = rack_groups(asked, there, 9, spread, said.append)

        assert [group.name for group in found] == ["rtx3090", "2x rtx3060", "rtx3060"]
        assert "1 engine over 2x RTX 3060: the model does not fit one card" in said[-1]

    def test_one_that_fits_no_slot_has_single_cards_to_be_refused_on(self) -> None:
        spread = spread_of(any_job(model="gemma-3-27b"), known_model("gemma-3-27b"))

        assert spread(find_card("rtx3060ti"), 2) == 1
        assert spread(find_card("rtx3060ti"), 4) == 4

    def test_parts_of_an_engine_need_a_core_each(self) -> None:
        assert hosts(self.job(), machine("a")) == [("a", 0)]
        with pytest.raises(UsageError, match="8 parts of an engine each need a core"):
            groups(self.job(8), [machine("a")])


def test_facts_travel_as_text() -> None:
    facts = machine("a", "rtx3090").facts
    assert facts is not None

    assert MachineFacts.decode(facts.encode()) == facts


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b'{"devices": [1]}'])
def test_what_is_no_facts_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):
        MachineFacts.decode(content)
