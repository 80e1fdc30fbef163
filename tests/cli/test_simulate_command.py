"""`rackmill simulate` as a user meets it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.job.registries.admission_policies import ADMISSION_POLICIES

KEYS = {
    *("makespan_seconds", "output_tokens_per_second", "preemptions", "recomputed_tokens"),
    *("recomputed_share", "mean_kv_use", "mean_batch", "tail_idle_share", "per_gpu", "errors"),
}
ON = ("--model", "gemma-3-27b", "--gpu", "rtx3090")


@pytest.fixture
def trace(tmp_path: Path) -> Callable[..., Path]:
    """Writes a trace of 40 rows, with columns changed."""

    def write(**changes: list[Any] | None) -> Path:
        rng = random.Random(3)
        columns: dict[str, Any] = {
            "prompt_tokens": [rng.randint(20, 400) for _ in range(40)],
            "output_tokens": [rng.randint(5, 200) for _ in range(40)],
        }
        columns |= changes
        table = pa.table({name: column for name, column in columns.items() if column is not None})
        pq.write_table(table, tmp_path / "trace.parquet")
        return tmp_path / "trace.parquet"

    return write


@pytest.mark.parametrize("policy", ["packed", "engine", "static:8", "worst-case", "oracle"])
def test_every_policy_gives_the_documented_figures(ask, trace, policy: str) -> None:
    done = ask("simulate", "--trace", trace(), *ON, "--policy", policy, "--json")
    assert done.code == 0, done.err
    assert done.json.keys() == KEYS
    assert done.json["makespan_seconds"] > 0
    assert done.json["per_gpu"][0]["rows"] == 40
    assert done.json["errors"] == []


def test_its_help_names_every_registered_policy(ask) -> None:
    said = " ".join(ask("simulate", "--help").out.split())
    assert all(policy.form in said for policy in ADMISSION_POLICIES)


def test_a_person_is_told_what_ran_where_and_how_long(ask, trace) -> None:
    done = ask("simulate", "--trace", trace(), *ON)
    lines = done.out.splitlines()
    assert lines[0] == "gemma-3-27b int4 on RTX 3090, packed (simulated)"
    assert "40 requests" in lines[1]
    assert "KV blocks of 16 tokens in bf16" in lines[2]
    assert "output tokens/s" in lines[3]
    assert done.err == ""


def test_settings_of_the_engine_can_be_given(ask, trace) -> None:
    done = ask("simulate", "--trace", trace(), *ON, "--set", "engine.max_num_seqs=3", "--json")
    assert done.json["mean_batch"] <= 3


def test_fp8_makes_room_for_more(ask, trace) -> None:
    of_4090 = ("--model", "gemma-3-27b", "--gpu", "rtx4090")
    done = ask("simulate", "--trace", trace(), *of_4090, "--kv-dtype", "fp8")
    assert "tokens in fp8" in done.out


def test_rows_of_a_prefix_group_share_its_blocks(ask, trace) -> None:
    prompts = {"prompt_tokens": [400] * 40, "output_tokens": [20] * 40}
    alone = ask("simulate", "--trace", trace(**prompts), *ON, "--policy", "engine", "--json")
    grouped = prompts | {"prefix_group": ["a"] * 40, "prefix_tokens": [384] * 40}
    shared = ask("simulate", "--trace", trace(**grouped), *ON, "--policy", "engine", "--json")
    assert shared.json["makespan_seconds"] < alone.json["makespan_seconds"]


def test_rows_wait_for_their_arrival(ask, trace) -> None:
    late = trace(arrival=[float(i * 10) for i in range(40)])
    done = ask("simulate", "--trace", late, *ON, "--json")
    assert done.json["makespan_seconds"] > 390


def test_a_request_that_can_never_fit_is_an_error_row(ask, trace) -> None:
    prompts = [100] * 39 + [60_000]
    done = ask("simulate", "--trace", trace(prompt_tokens=prompts), *ON, "--json")
    assert done.code == 3
    (error,) = done.json["errors"]
    assert (error["row"], error["type"]) == (39, "NeverFits")
    assert "KV blocks, there are" in error["message"]
    assert done.json["per_gpu"][0]["rows"] == 39
    assert "1 can never run" in ask("simulate", "--trace", trace(prompt_tokens=prompts), *ON).out


def test_several_cards_share_the_rows(ask, trace) -> None:
    rack = ("--model", "gemma-3-12b", "--gpu", "rtx3090:2,rtx4090")
    done = ask("simulate", "--trace", trace(), *rack, "--json")
    assert done.code == 0, done.err
    assert [one["gpu"] for one in done.json["per_gpu"]] == ["rtx3090-1", "rtx3090-2", "rtx4090-1"]
    assert sum(one["rows"] for one in done.json["per_gpu"]) == 40


def test_engines_that_die_are_counted(ask, trace) -> None:
    done = ask("simulate", "--trace", trace(), *ON, "--failures", "500")
    assert done.code == 0, done.err
    assert "engine death" in done.out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"output_tokens": None}, "no column output_tokens"),
        ({"prompt_tokens": [-1] * 40}, "row 1: prompt_tokens is -1, below 1"),
        ({"prompt_tokens": [None] * 40}, "row 1: prompt_tokens is null"),
        ({"prompt_tokens": ["x"] * 40}, "row 1: prompt_tokens is 'x'"),
        ({"prompt_tokens": [], "output_tokens": []}, "has no rows"),
        ({"prefix_group": [0] * 40, "prefix_tokens": [500] * 40}, "prefix_tokens 500 is above"),
        ({"prefix_group": [[0]] * 40, "prefix_tokens": [5] * 40}, "no name and no number"),
    ],
)
def test_an_impossible_trace_ends_with_2(ask, trace, changes, words: str) -> None:
    done = ask("simulate", "--trace", trace(**changes), *ON)
    assert done.code == 2
    assert done.err.startswith("error: trace: ")
    assert words in done.err


def test_the_output_of_a_run_is_a_trace_of_its_rows_without_errors(ask, tmp_path) -> None:
    folder = tmp_path / "runs/mine"
    (folder / "_rackmill").mkdir(parents=True)
    error = pa.array([None, {"type": "PromptTooLong"}, None])
    lengths = {"prompt_tokens": [9, 9, 9], "completion_tokens": [7, 0, 5]}
    pq.write_table(pa.table({**lengths, "error": error}), folder / "00000-000000000000.parquet")

    done = ask("simulate", "--trace", str(folder), *ON)
    assert done.code == 0, done.err
    assert "2 requests, 9 prompt and 6 output tokens" in done.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--policy", "pack"), "did you mean packed?"),
        (("--policy", "static:0"), "write it like static:12"),
        (("--gpu", "rtx3091"), "did you mean rtx3090"),
        (("--gpu", "rtx3090:x"), 'write it like "4x rtx3090,2x rtx4090"'),
        (("--gpu", "rtx3090:9999"), "more than 4096 cards"),
        (("--gpu", "rtx4060"), "does not fit RTX 4060"),
        (("--model", "gemma-3-27"), "did you mean gemma-3-27b"),
        (("--kv-dtype", "fp8"), "vLLM keeps the KV cache in fp8 on Ada"),
        (("--trace", "nowhere.parquet"), "no such file"),
        (("--max-tokens", "4"), "is above --max-tokens 4"),
        (("--set", "engine.max_num_seq=4"), "did you mean 'max_num_seqs'"),
        (("--set", "sampling.seed=4"), "engine.… settings only"),
        (("--calibration", "nowhere.json"), "cannot be read"),
        (("--failures", "-1"), "failures"),
    ],
)
def test_bad_arguments_end_with_2_and_the_mend(ask, trace, arguments, words: str) -> None:
    done = ask("simulate", "--trace", trace(), *ON, *arguments)
    assert done.code == 2, done.out + done.err
    assert words in done.err
    assert done.out == ""


def test_what_is_no_parquet_is_said_to_be_none(ask, tmp_path: Path) -> None:
    (tmp_path / "trace.parquet").write_text("prompt_tokens,output_tokens\n1,2\n")
    done = ask("simulate", "--trace", "trace.parquet", *ON)
    assert done.code == 2
    assert "cannot be read as Parquet" in done.err


def test_cards_too_small_for_the_model_are_put_together(ask, trace) -> None:
    on = ("--model", "gemma-3-27b", "--gpu", "rtx3060:5", "--max-tokens", "200")
    done = ask("simulate", "--trace", trace(), *on)

    assert done.out.splitlines()[0] == "gemma-3-27b int4 on 2× (2x RTX 3060), packed (simulated)"
    assert done.err == "1x RTX 3060 left over: an engine takes 2 alike\n"


def test_laptops_and_cards_named_apart_are_in_several_machines(ask, trace) -> None:
    laptops = ask("simulate", "--trace", trace(), "--model", "gemma-3-12b", "--gpu",
                  "2x rtx4060-laptop")  # fmt: skip
    apart = ask("simulate", "--trace", trace(), *ON[:2], "--gpu", "rtx3060,rtx3060")

    assert (laptops.code, apart.code) == (2, 2)
    assert "gemma-3-12b int4 does not fit RTX 4060 Laptop (8 GB)" in laptops.err
    assert "gemma-3-27b int4 does not fit RTX 3060 (12 GB)" in apart.err


def test_cards_that_do_not_hold_the_model_are_left_out_as_a_plan_does(ask, trace) -> None:
    done = ask("simulate", "--trace", trace(), *ON[:2], "--gpu", "rtx3060,2x rtx2080ti,rtx3090")

    assert done.out.startswith("gemma-3-27b int4 on RTX 3090, packed")
    said = done.err.splitlines()
    assert said[0].startswith("left out: gemma-3-27b int4 does not fit RTX 3060 (12 GB)")
    assert said[1].startswith("left out: gemma-3-27b int4 cannot run on RTX 2080 Ti (11 GB)")


def test_a_card_too_few_for_a_slot_is_left_over_as_in_a_plan(ask, trace) -> None:
    on = ("--gpu", "2x rtx3090,rtx3060", "--set", "engine.tensor_parallel_size=2")
    done = ask("simulate", "--trace", trace(), *ON[:2], *on)

    assert done.out.startswith("gemma-3-27b int4 on 2x RTX 3090, packed")
    assert done.err == "1x RTX 3060 left over: an engine takes 2 alike\n"


def test_a_slot_of_two_cards_is_faster_than_one_card(ask, trace) -> None:
    two = ("--gpu", "rtx3090:2", "--set", "engine.tensor_parallel_size=2")
    took = [
        ask("simulate", "--trace", trace(), *ON, *given, "--json").json["makespan_seconds"]
        for given in ((), two)
    ]
    assert took[1] < 0.9 * took[0]


def test_more_cards_alike_than_there_are_is_refused(ask, trace) -> None:
    on = ("--gpu", "rtx3090,rtx4090", "--set", "engine.tensor_parallel_size=2")
    refused = ask("simulate", "--trace", trace(), *ON[:2], *on)

    assert refused.code == 2
    assert (
        "engine.tensor_parallel_size: 2 like cards of one machine are asked for; there are "
        "1x RTX 3090; 1x RTX 4090"
    ) in refused.err
