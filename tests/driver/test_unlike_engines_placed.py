"""Where the workers of unlike engines go, on this machine and on a rack."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.cluster import engine_groups
from pipeline.cluster.card_slots import spread_of
from pipeline.cluster.engine_groups import EngineGroup, local_groups
from pipeline.cluster.rack_state.machines import Machine
from pipeline.engine.gpu.usable import UsableCards
from tests.driver.test_select_engines import found_slots, job, machine

OLLAMA = {"kind": "ollama", "url": "http://box:11434"}
LLAMA = {"kind": "llama.cpp"}


def here(*engines: Any, most: int = 99) -> list[EngineGroup]:
    asked = job(engines=list(engines), mixed=True)
    return local_groups(asked, most, spread_of(asked, None))


def bringing(one: Machine, engine: dict[str, Any]) -> Machine:
    assert one.facts is not None
    return replace(one, facts=replace(one.facts, engine=engine))


@pytest.fixture(autouse=True)
def _no_card_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_groups, "offer", lambda: UsableCards((), (), "cpu"))


def test_each_server_is_a_group_of_its_own() -> None:
    found = here("simulated", {"kind": "openai", "url": ["http://a:1", "http://b:1"]})

    assert [(one.name, one.number) for one in found] == [
        ("none", 1),
        ("openai server http://a:1", 1),
        ("openai server http://b:1", 1),
    ]


def test_vllm_and_llama_cpp_share_a_processor() -> None:
    slots = [slot for one in here("vllm", LLAMA) for slot in one.slots]

    assert [(slot.index, slot.of) for slot in slots] == [(0, 2), (1, 2)]


def test_a_server_elsewhere_takes_nothing_of_the_processor() -> None:
    [vllm, _] = here("vllm", OLLAMA)

    assert [slot.of for slot in vllm.slots] == [1]


def test_no_more_engines_than_units() -> None:
    assert len(here("simulated", OLLAMA, most=1)) == 1


def placed(asked: Any, *machines: Machine) -> list[tuple[str, str]]:
    found, _ = found_slots(asked, *machines)
    return [(one.slots[0].host, one.model or str(one.card)) for one in found]


def test_on_a_rack_a_server_is_asked_from_one_machine() -> None:
    asked = job(engines=["vllm", OLLAMA], mixed=True)

    found = placed(asked, machine("a", "rtx4090"), machine("b", "rtx4090"))

    assert [(host, "ollama" in what) for host, what in found] == [
        ("a", False),
        ("b", False),
        ("a", True),
    ]


def test_the_server_takes_no_card_of_the_rack() -> None:
    asked = job(engines=["vllm", OLLAMA], mixed=True)
    slots = [one.slots[0] for one in found_slots(asked, machine("a", "rtx4090"))[0]]

    assert [len(slot.shared_keys) for slot in slots] == [1, 0]
    assert not slots[0].keys & slots[1].keys


def test_llama_cpp_is_started_where_no_card_is() -> None:
    asked = job(engines=["vllm", LLAMA], mixed=True)

    found = placed(asked, machine("a", "rtx4090"), machine("old"))

    assert ("old", "llama.cpp server") in found
    assert ("a", "llama.cpp server") not in found


def test_a_machine_with_its_own_engine_works_on_mixed_jobs() -> None:
    brought = bringing(machine("mac"), OLLAMA)

    found = placed(job(mixed=True), machine("a", "rtx4090"), brought)

    assert found[1:] == [("mac", "ollama server http://box:11434")]


def test_a_machine_with_its_own_engine_is_left_out_of_others() -> None:
    brought = bringing(machine("mac"), OLLAMA)

    found, left_out = found_slots(job(), machine("a", "rtx4090"), brought)

    assert [one.slots[0].host for one in found] == ["a"]
    assert left_out == [
        "left out: mac: its engine is ollama: resources.mixed: true takes it beside others"
    ]


def test_a_machine_with_its_own_engine_needs_no_vllm() -> None:
    brought = bringing(machine("mac", vllm=""), OLLAMA)

    assert ("mac", "ollama server http://box:11434") in placed(
        job(mixed=True), machine("a", "rtx4090"), brought
    )
