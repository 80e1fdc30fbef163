"""`rackmill fit` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.samples import CONFIG_270M

KEYS = {
    *("model", "precision", "card", "context", "kv_dtype", "announced_gb", "weights_bytes"),
    *("overhead_bytes", "kv_bytes", "block_size", "num_blocks", "blocks_per_request"),
    *("max_requests", "roofline_tokens_per_second", "fits", "reason", "advice"),
}


@pytest.fixture(autouse=True)
def nothing_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RACKMILL_PROFILE", str(tmp_path / "profile.jsonl"))


def test_without_arguments_every_model_meets_every_card(ask) -> None:
    done = ask("fit", "--json")
    assert done.code == 0
    fits = done.json["fits"]
    assert len(fits) == 5 * 3 * 6
    assert all(set(one) == KEYS for one in fits)
    assert {one["card"] for one in fits} == {
        *("rtx3060", "rtx3090", "rtx4060-laptop", "rtx4090", "rtx5090", "cpu")
    }


def test_the_matrix_fits_a_terminal_of_100_columns(ask) -> None:
    done = ask("fit")
    lines = done.out.splitlines()
    tables = lines[: lines.index("where the announcement and vLLM differ")]
    assert max(len(line) for line in tables) <= 100


def test_where_announcement_and_vllm_differ_is_said_with_the_arithmetic(ask) -> None:
    told = ask("fit").out.split("where the announcement and vLLM differ")[1]
    assert "12B int4: 6.6 GB announced, 8.1 GB loaded" in told
    assert "12B on an RTX 4060 Laptop" in told
    assert "27B needs +8 GB for 2048 tokens" in told
    assert "0.63 GiB in vLLM" in told


def test_one_model_on_one_card_is_explained(ask) -> None:
    done = ask("fit", "--model", "gemma-3-27b", "--gpu", "rtx3090")
    assert done.out.startswith("gemma-3-27b int4 fits RTX 3090 (24 GB): 8 requests of 1k tokens")
    assert "usable − weights 17.2 GB − overhead" in done.out
    assert "gpu_memory_utilization 0.92" in done.out


def test_what_does_not_fit_says_why_and_what_would(ask) -> None:
    done = ask("fit", "--model", "gemma-3-12b", "--gpu", "rtx4060-laptop")
    assert done.code == 0
    assert "does not fit RTX 4060 Laptop (8 GB)" in done.out
    assert "announced: 6.6 GB" in done.out
    assert "would fit: 4B int4" in done.out


def test_a_precision_belongs_to_the_name(ask) -> None:
    (one,) = ask("fit", "--model", "gemma-3-4b-int8", "--gpu", "rtx4090", "--json").json["fits"]
    assert (one["model"], one["precision"]) == ("gemma-3-4b", "int8")


def test_a_context_of_ones_own_has_its_own_column(ask) -> None:
    arguments = ("--model", "gemma-3-27b", "--gpu", "rtx3090", "--context", 2000)
    (one,) = ask("fit", *arguments, "--json").json["fits"]
    assert one["context"] == 2000
    assert list(one["max_requests"]) == ["1024", "2000", "4096", "8192", "32768"]


def test_vision_costs_what_the_tower_weighs(ask) -> None:
    text, vision = (
        ask("fit", "--model", "gemma-3-4b", "--gpu", "rtx3090", flag, "--json").json["fits"][0]
        for flag in ("--text-only", "--vision")
    )
    assert vision["weights_bytes"] - text["weights_bytes"] == pytest.approx(0.84e9, rel=0.01)


def test_a_card_that_is_not_known_is_its_memory(ask) -> None:
    (one,) = ask("fit", "--model", "gemma-3-12b", "--vram", 24, "--json").json["fits"]
    assert one["fits"]


def test_a_folder_is_a_model(ask, tmp_path: Path) -> None:
    groups = {"g": {"weights": {"num_bits": 4, "type": "int", "group_size": 64}}}
    config = CONFIG_270M | {
        "quantization_config": {"quant_method": "compressed-tensors", "config_groups": groups}
    }
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(json.dumps(config))
    (one,) = ask("fit", "--model", "./mine", "--gpu", "rtx3060", "--json").json["fits"]
    assert one["model"] == "mine"
    assert one["precision"] == "int4"
    assert one["announced_gb"] is None


def test_what_an_engine_reported_corrects_the_overhead(ask, tmp_path: Path) -> None:
    workload = {
        "kind": "choices",
        "rows": 10,
        "prompt_tokens": 10.0,
        "shared_tokens": 0.0,
        "completion_tokens": 1.0,
    }
    seconds = {"ready_seconds": 1.0, "work_seconds": 1.0, "other_seconds": 1.0}
    record = {
        "day": "2026-01-01",
        "model": "gemma-3-4b int4 group 32",
        "card": "rtx3090",
        "engine": "vllm",
        "template": "t",
        "run": {"workload": workload, "engines": 1, **seconds},
        "overhead_bytes": 1_234_567_890,
    }
    (tmp_path / "profile.jsonl").write_text(json.dumps(record) + "\n")
    arguments = ("--model", "gemma-3-4b", "--json", "--gpu")
    assert ask("fit", *arguments, "rtx3090").json["fits"][0]["overhead_bytes"] == 1_234_567_890
    assert ask("fit", *arguments, "rtx4090").json["fits"][0]["overhead_bytes"] != 1_234_567_890


@pytest.mark.parametrize(
    ("arguments", "wrong", "fix"),
    [
        (("--gpu", "rtx309"), "unknown card 'rtx309'", "did you mean rtx3090"),
        (("--model", "gemma-3-28b"), "unknown model 'gemma-3-28b'", "did you mean gemma-3-27b"),
        (("--gpu", "rtx3090", "--vram", 24), "--gpu and --vram", "name a card"),
        (("--model", "./nowhere"), "no such folder", ""),
        (("--kv-dtype", "int4"), "int4", "fp8"),
    ],
)
def test_a_mistake_is_answered_with_the_mend(ask, arguments, wrong: str, fix: str) -> None:
    done = ask("fit", *arguments)
    assert done.code == 2
    assert done.out == ""
    assert wrong in done.err
    assert fix in done.err


def test_several_cards_are_answered_one_after_the_other(ask) -> None:
    asked = ("fit", "--model", "gemma-3-12b", "--gpu", "3090, 3060:2, 3060")
    together, alone = ask(*asked, "--json").json["fits"][1:]
    said = ask(*asked).out.splitlines()

    assert (together["card"], alone["card"]) == ("rtx3060", "rtx3060")
    assert together["weights_bytes"] < 0.6 * alone["weights_bytes"]
    titles = ["RTX 3090 · ", "2x RTX 3060 · ", "RTX 3060 · "]
    assert [t for line in said for t in titles if line.startswith(t)] == titles


def test_two_laptops_are_no_machine_with_two_cards(ask) -> None:
    done = ask("fit", "--model", "gemma-3-12b", "--gpu", "2x rtx4060-laptop")

    assert done.code == 2
    assert "2 laptops are 2 machines, and the cards of an engine are in one" in done.err
    assert "--gpu rtx4060-laptop" in done.err
