"""tests/bench/gpu.py: what it says where it cannot run, and a rehearsal of all of it on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.budget.cards.lookup import find_card
from pipeline.engine.protocol import EngineStats
from pipeline.engine.standalone.calibrate import read_calibration
from pipeline.model.folder import ModelFolder
from pipeline.model.geometry import Geometry
from pipeline.model.tensors import Packing, differences, read_tensors
from tests.support.fake_cards import GIB, RTX_3090, FakeCards, fake_cards

__all__ = ["fake_cards"]

BENCH = Path(__file__).parent / "bench"
SCRIPT = BENCH / "gpu.py"
PARTS = {"first", "second", "loop", "steps", "late", "generate", "kill", "fp8", "plain"}
SMALL = Geometry(
    n_global=1,
    n_sliding=6,
    hidden=64,
    ffn=96,
    query_heads=2,
    kv_heads=1,
    head_dim=32,
    sliding_window=512,
    vocabulary=300,
    context=2048,
)


@pytest.fixture(autouse=True)
def _on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))


def ask(*arguments: object, **environment: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=5400)


def test_an_unknown_part_ends_with_2_and_the_parts_that_there_are() -> None:
    done = ask("--only", "loops")

    assert done.returncode == 2
    assert "no such part: 'loops'" in done.stderr
    assert "first, second, loop" in done.stderr


def test_without_a_card_it_says_how_to_rehearse(fake_cards: Callable[..., FakeCards]) -> None:
    fake_cards(error="LIBRARY_NOT_FOUND")

    done = ask("--device", "cuda")

    assert done.returncode == 2
    assert "--device cpu" in done.stderr


def test_a_card_with_the_cpu_build_of_vllm_names_the_command(
    fake_cards: Callable[..., FakeCards],
) -> None:
    fake_cards(RTX_3090, build="cpu")

    done = ask()

    assert done.returncode == 2
    assert "RACKMILL_VARIANT=cuda ./infra/setup" in done.stderr


def test_a_card_is_read_as_its_driver_tells(fake_cards: Callable[..., FakeCards]) -> None:
    from gpu_parts.board import Board, Watch

    cards = fake_cards(RTX_3090)
    cards.change(0, used_bytes=3 * GIB, watts=210.0, temperature=66, utilization=80)
    board = Board(0)
    with Watch(board) as watch:
        state = board.state()
    cards.change(0, unsupported=["nvmlDeviceGetPowerUsage"])

    assert watch.peak_bytes == 3 * GIB
    assert watch.busy == pytest.approx(0.8)
    assert (state["watts"], state["celsius"], state["watts_limit"]) == (210.0, 66, 350.0)
    assert board.state()["watts"] is None


def test_the_largest_model_up_to_12b_that_fits_is_chosen() -> None:
    from gpu_parts.device import Device

    chosen = [
        Device(0, find_card(name), name).largest_model()
        for name in ("h200", "rtx3090", "rtx4060-laptop")
    ]

    assert chosen == ["gemma-3-12b", "gemma-3-12b", "gemma-3-4b"]


def test_a_made_up_checkpoint_has_the_tensors_of_a_converted_one(
    model: ModelFolder, tmp_path: Path
) -> None:
    from gpu_parts.checkpoint import _write

    _write(SMALL, model.path, tmp_path / "made-up")

    made = ModelFolder("made-up", tmp_path / "made-up")
    config = json.loads((made.path / "config.json").read_text())
    packing = Packing.of(config)
    assert packing is not None
    assert differences(read_tensors(made.path), made.family, SMALL, packing) == []
    assert made.geometry == SMALL
    assert made.precision == "int4"


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    """`gpu.py`, about to measure all parts on the processor."""
    from gpu import LIMITS, Bench
    from gpu_parts.device import Device, Wanted

    wanted = Wanted(ModelFolder("m", tmp_path), {}, {"blocks": 5}, {"OURS": "1"}, {}, {}, {})
    device = Device(None, find_card("rtx3090"), "none")
    return Bench(device, wanted, list(LIMITS), tmp_path / "out.json", tmp_path, 15.0)


def test_parts_behind_a_broken_one_get_a_new_process(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def measure(script: str, order: dict[str, Any], *rest: Any) -> dict[str, Any]:
        asked.append(order["parts"])
        if "loop" in order["parts"] and "start" in order["parts"]:
            return {"start": {}, "loop": {"error": "it is broken"}}
        if order["parts"] == ["generate"]:
            raise OSError("no room for its log")
        return {part: {"calibration": {"of": "steps"}} for part in order["parts"]}

    monkeypatch.setattr("gpu.measure", measure)
    monkeypatch.setattr("gpu.killed", lambda *rest: {"held_bytes": 1})
    bench.wanted.environment.clear()
    bench.run()

    assert json.loads(bench.calibration.read_text()) == {"of": "steps"}
    kept = json.loads(bench.out.read_text())["parts"]
    assert kept.keys() == PARTS
    assert ["steps", "late"] in asked
    broken = {part: one["error"] for part, one in kept.items() if "error" in one}
    assert broken.keys() == {"loop", "generate", "fp8"}  # fp8 begins as loop does
    assert broken["generate"] == "OSError: no room for its log"


def test_what_takes_too_long_leaves_what_was_found_until_then(bench: Any, tmp_path: Path) -> None:
    from gpu_parts.board import Board
    from gpu_parts.session import measure

    child = tmp_path / "child.py"
    child.write_text(
        "import time\n"
        "def say(text): print('rackmill-part: ' + text, flush=True)\n"
        'say(\'{"part": "start", "blocks": 7}\')\n'
        'say(\'{"part": "so far", "8": {"rows": 3}}\')\n'
        "time.sleep(600)\n"
    )
    order = {"parts": ["start", "loop", "steps"]}
    found = measure(str(child), order, {}, [60, 0.5, 60], Board(None), tmp_path / "log")

    assert found["start"]["blocks"] == 7
    assert found["loop"]["8"] == {"rows": 3}
    assert found["loop"]["error"] == "not done after 0 s"
    assert "steps" not in found


def test_vllm_as_it_comes_is_tried_without_flashinfers_sampler_as_well(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpu_parts.table import table

    def measure(
        script: str, order: dict[str, Any], environment: dict[str, str], *rest: Any
    ) -> dict[str, Any]:
        if environment.get("VLLM_USE_FLASHINFER_SAMPLER") != "0":
            return {"plain": {"error": "Could not find nvcc"}}
        rate = {"tokens_per_second": 5.0, "rows": 2}
        return {"plain": {str(tokens): rate for tokens in (8, 32, 128)}}

    monkeypatch.setattr("gpu.measure", measure)
    bench.parts = ["plain"]
    bench.run()

    facts = {
        "order": ["plain"],
        "device": {"name": "a card", "driver": ""},
        "model": {"name": "m", "made_up": True},
        "versions": {},
    }
    said = table(facts, bench.found)
    assert "as it comes: Could not find nvcc" in said
    assert "without FlashInfer's sampler" in said
    assert "answers of 128: 5 tokens/s" in said


def test_late_tokens_are_those_that_the_engine_counts() -> None:
    from gpu_parts.engine_child import Watched

    class Engine:
        facts, add, abort, stats = None, None, None, EngineStats()

        def step(self) -> list[Any]:
            self.stats.late_tokens += 2 * (self.stats.steps % 3 == 0)
            self.stats.steps += 1
            return []

    watched = Watched(Engine())
    for _ in range(4):
        watched.step()

    assert (watched.steps, watched.late_steps, watched.stats.late_tokens) == (4, 2, 4)


@pytest.mark.engine
@pytest.mark.alone
@pytest.mark.long
def test_all_of_it_is_rehearsed_on_the_cpu(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    settings = ("--scale", "0.2", "--minutes", "90", "--folder", tmp_path / "kept")

    done = ask("--device", "cpu", "--out", out, *settings)

    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert {"command", "day", "machine", "versions", "device", "model"} <= found.keys()
    parts = found["parts"]
    assert parts.keys() == PARTS
    assert not {name: one["error"] for name, one in parts.items() if "error" in one}
    assert parts["first"]["blocks"] == parts["first"]["predicted_blocks"]
    assert parts["first"]["peak_bytes"] > GIB // 2
    for part in ("loop", "generate", "plain"):
        for tokens in ("8", "32", "128"):
            one = parts[part][tokens]
            assert one["tokens"] == int(tokens) * one["rows"]
            assert one["tokens_per_second"] > 0
    assert parts["loop"]["8"]["card_idle_share"] is None  # there is none
    assert parts["late"]["failed"] == 0
    assert len(parts["steps"]["measured"]) >= 8
    assert read_calibration(tmp_path / "gpu.calibration.json")
    for victim in ("core", "worker"):
        assert parts["kill"][victim]["memory_free_seconds"] is not None
    assert parts["kill"]["core"]["noticed"]
    assert "KV blocks" in done.stdout
    assert "ours over this" in done.stdout
