"""On which cards engines run: one count, for plans, runs, racks and Ray."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.cluster.card_slots import spread_of
from pipeline.cluster.engine_groups import EngineGroup, local_groups
from pipeline.engine.gpu.nvml import DeviceFacts, free_gpu_memory, holders, read_driver
from pipeline.engine.gpu.usable import gpus, offer
from pipeline.engine.machine.facts import MachineFacts, own_facts
from pipeline.errors import UsageError
from pipeline.job.job import Job
from pipeline.service.rack.start import _cards
from tests.support.fake_cards import (
    GIB,
    RTX_2080_TI,
    RTX_3060,
    RTX_3090,
    RTX_4090,
    FakeCard,
    FakeCards,
)
from tests.support.samples import job

_Show = Callable[..., FakeCards]


def groups(made: Job, say: Callable[[str], None] = lambda line: None) -> list[EngineGroup]:
    return local_groups(made, 4, spread_of(made, None), say)


def indices() -> list[int]:
    return [gpu.index for gpu in offer().gpus]


class TestWhatTheDriverShows:
    def test_everything_that_the_arithmetic_wants_of_a_card(self, fake_cards: _Show) -> None:
        fake_cards(RTX_3090)

        (gpu,) = gpus()
        assert (gpu.name, gpu.capability) == ("NVIDIA GeForce RTX 3090", (8, 6))
        assert (gpu.memory_clock, gpu.bus_width, gpu.cores) == (9751, 384, 10496)
        assert gpu.uuid.startswith("GPU-")

    def test_what_a_driver_does_not_know_of_a_card_is_left_open(self, fake_cards: _Show) -> None:
        unknown = ["nvmlDeviceGetMemoryBusWidth", "nvmlDeviceGetNumGpuCores"]
        fake_cards(replace(RTX_3090, unsupported=unknown))

        (gpu,) = gpus()
        assert (gpu.bus_width, gpu.cores) == (0, 0)

    def test_a_card_whose_memory_is_the_machines(self, fake_cards: _Show) -> None:
        """As NVML answers on a GB10."""
        shared = FakeCard("NVIDIA GB10", capability=(12, 1),
                          unsupported=["nvmlDeviceGetMemoryInfo"])  # fmt: skip
        fake_cards(shared)

        (gpu,) = gpus()
        free, total = free_gpu_memory(0)
        assert 0 < free < total == gpu.memory_bytes

    @pytest.mark.parametrize("error", ["GPU_IS_LOST", "UNKNOWN", "TIMEOUT", "RESET_REQUIRED"])
    def test_a_card_that_does_not_answer_is_a_sentence(self, error: str, fake_cards: _Show) -> None:
        failing = replace(RTX_3090, errors={"nvmlDeviceGetName": error})
        fake_cards(failing, RTX_4090)

        driver = read_driver()
        assert [gpu.index for gpu in driver.gpus] == [1]
        assert "GPU 0" in driver.faults[0].says

    def test_nothing_is_raised_whatever_fails_later(self, fake_cards: _Show) -> None:
        driver = fake_cards(RTX_3090)
        driver.change(0, lost=True)
        assert (free_gpu_memory(0), holders(0)) == ((0, 0), [])
        driver.fail("UNKNOWN")
        assert (free_gpu_memory(0), holders(0), gpus()) == ((0, 0), [], [])


class TestWhichAreUsed:
    @pytest.mark.parametrize(
        ("visible", "used"),
        [(None, [1, 2]), ("2", [2]), ("2,1", [2, 1]), ("0", []), ("0,2", [2]), ("1,9", [1])],
    )
    def test_those_that_serve_and_that_the_variable_shows(
        self, visible: str | None, used: list[int], fake_cards: _Show, monkeypatch
    ) -> None:
        fake_cards(RTX_2080_TI, RTX_3090, RTX_4090)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

        assert indices() == used

    def test_a_card_that_is_lost_keeps_its_number(self, fake_cards: _Show, monkeypatch) -> None:
        fake_cards(replace(RTX_3090, lost=True), RTX_4090)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")

        assert indices() == [1]

    def test_none_with_the_build_for_the_cpu_and_it_is_said(self, fake_cards: _Show) -> None:
        fake_cards(RTX_3090, build="cpu")

        there = offer()
        assert there.gpus == ()
        assert "./infra/setup installs the CUDA build" in there.left[0]
        there.check()

    @pytest.mark.parametrize(
        ("cards", "driver", "words"),
        [
            ([RTX_2080_TI], {}, "has no bfloat16"),
            ([RTX_3060], {"version": "535.1"}, "needs 580 or newer"),
            ([RTX_3060], {"error": "LIB_RM_VERSION_MISMATCH"}, "reboot"),
            ([], {}, "no NVIDIA GPU is to be seen"),
            ([replace(RTX_3090, lost=True)], {}, "fallen off the bus"),
        ],
    )
    def test_the_cuda_build_without_a_card_says_what_to_do(
        self, cards: list, driver: dict, words: str, fake_cards: _Show
    ) -> None:
        fake_cards(*cards, **driver)

        with pytest.raises(UsageError, match="vLLM's CUDA build is installed") as caught:
            groups(job())
        assert words in str(caught.value)
        assert "RACKMILL_VARIANT=cpu ./infra/setup" in caught.value.hints[-1]

    def test_hidden_cards_are_called_so(self, fake_cards: _Show, monkeypatch) -> None:
        fake_cards(RTX_3090)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

        with pytest.raises(UsageError, match="CUDA_VISIBLE_DEVICES='' hides every card"):
            groups(job())

    def test_without_a_compiler_a_job_on_a_card_does_not_begin(
        self, fake_cards: _Show, monkeypatch
    ) -> None:
        fake_cards(RTX_3090)
        monkeypatch.setenv("CC", "no-such-compiler")

        with pytest.raises(UsageError, match="RTX 3090 cannot start: CC names 'no-such-compiler'"):
            groups(job())
        groups(job(engine={"kind": "simulated"}))

    def test_without_headers_neither(self, fake_cards: _Show) -> None:
        fake_cards(RTX_3090, headers=False)

        with pytest.raises(UsageError, match=r"Python.h"):
            groups(job())

    def test_a_plan_uses_the_cards_that_serve_and_names_the_others(self, fake_cards: _Show) -> None:
        fake_cards(RTX_2080_TI, RTX_3090)
        said: list[str] = []

        (group,) = groups(job(), said.append)
        assert (group.number, group.name) == (1, "rtx3090")
        assert said == [
            "left out: RTX 2080 Ti (compute capability 7.5) has no bfloat16, which Gemma 3 needs: "
            "that takes 8.0, an RTX 30xx or newer"
        ]

    def test_a_card_that_cannot_serve_leaves_the_job_to_the_processor(
        self, fake_cards: _Show
    ) -> None:
        fake_cards(RTX_2080_TI, build="cpu")
        said: list[str] = []

        (group,) = groups(job(), said.append)
        assert group.shared
        assert "RTX 2080 Ti" in said[0]


class TestRackFacts:
    def test_a_rack_gets_the_cards_that_are_used_in_their_order(
        self, fake_cards: _Show, monkeypatch
    ) -> None:
        fake_cards(RTX_2080_TI, RTX_3090, RTX_4090)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0,1")

        facts = own_facts()
        assert [device.card.name for device in facts.devices] == ["rtx4090", "rtx3090"]
        assert "RTX 2080 Ti" in facts.left[0]
        assert _cards() == {"cards": 2, "visible": "2,1"}

    def test_they_travel_with_all_that_the_arithmetic_wants(self, fake_cards: _Show) -> None:
        fake_cards(FakeCard("NVIDIA GeForce RTX 6070", 16 * GIB, capability=(13, 0)))

        told = own_facts()
        facts = MachineFacts.decode(told.encode())
        assert facts == told
        assert facts.devices[0].card.bandwidth == pytest.approx(936e9, rel=0.01)

    def test_those_of_older_and_of_newer_machines_are_understood(self) -> None:
        old = {
            "host": "old", "cores": [0], "memory_bytes": 1, "processor": "p", "preloads": [],
            "versions": {}, "announced": False,
            "devices": [{"name": "NVIDIA GeForce RTX 3090", "memory_bytes": 24 << 30,
                         "capability": [8, 6]}],
        }  # fmt: skip
        facts = MachineFacts.decode(json.dumps(old).encode())
        assert facts.devices == (DeviceFacts("NVIDIA GeForce RTX 3090", 24 << 30, (8, 6)),)
        assert facts.devices[0].card.name == "rtx3090"
        old["devices"][0]["colour"] = old["mood"] = "new"
        assert MachineFacts.decode(json.dumps(old).encode()) == facts

    def test_a_machine_whose_build_has_no_card_says_so(self, fake_cards: _Show) -> None:
        fake_cards(RTX_3060, error="LIB_RM_VERSION_MISMATCH")

        assert "reboot" in own_facts().trouble[0]


_COUNT = """
import json, sys
import ray
from pipeline.cluster.ray_cluster import Cluster
cluster = Cluster(None)
asked = ray.remote(num_gpus=1)(lambda: __import__("os").environ["CUDA_VISIBLE_DEVICES"])
seen = [ray.get(asked.remote())] if cluster.gpus else []
print("counted:", json.dumps([cluster.gpus, seen]))
cluster.close()
"""


@pytest.mark.ray
@pytest.mark.parametrize(
    ("visible", "count", "first"),
    [("2,7", 1, "2"), ("-1", 0, None)],
)
def test_ray_counts_what_we_count(
    visible: str | None, count: int, first: str | None, fake_cards: _Show, monkeypatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    fake_cards(RTX_2080_TI, RTX_3090, RTX_4090)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    done = subprocess.run(
        [sys.executable, "-c", _COUNT], capture_output=True, text=True, check=False
    )

    lines = [line for line in done.stdout.splitlines() if line.startswith("counted:")]
    assert lines, done.stderr
    gpus_of_ray, seen = json.loads(lines[0].removeprefix("counted:"))
    assert gpus_of_ray == len(offer().gpus) == count
    assert seen == ([] if first is None else [first])
