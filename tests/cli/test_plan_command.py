"""`rackmill plan`: what `run` would do, said without an engine and without touching the output."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline import load_job, plan
from pipeline.model.tokenizer import Tokenizer
from pipeline.output.columns.results import RowResult, tally, to_table
from pipeline.output.dataset import Dataset
from pipeline.storage.base import open_storage

_JOB = """\
name: label
model: gemma-3-270m
input: {path: rows/*.parquet}
instructions: "Say how the writer of a tweet feels."
prompt: "Tweet: {text}\\nSentiment:"
label: {choices: [negative, positive]}
output: {path: out, keep: [id, text]}
engine: {kind: simulated}
"""
_ROWS = (200, 100)


@pytest.fixture(autouse=True)
def _job(tmp_path: Path, write_shards) -> None:
    write_shards(tmp_path / "rows", *_ROWS)
    (tmp_path / "job.yaml").write_text(_JOB)


def test_a_file_among_others_that_is_not_whole_is_named_and_the_plan_ends_with_2(
    ask, tmp_path: Path
) -> None:
    (tmp_path / "rows/half.parquet").write_bytes(b"PAR1, and the rest is still to come")
    result = ask("plan", "job.yaml")
    assert result.code == 2
    assert "300 rows in 2 shards" in result.out
    assert "left for the next run: rows/half.parquet" in result.out
    assert "error: not whole: rows/half.parquet" in result.err


def _commit_first_unit() -> int:
    """What a run that was stopped after its first unit leaves; returns that unit's rows."""
    made = plan(load_job(Path("job.yaml")))
    dataset = Dataset(open_storage(made.job.output.path))
    dataset.take_over(made.manifest)
    unit = made.units[0]
    rows = pq.read_table(made.input.files.shards[0].path).slice(unit.start, unit.rows)
    one = RowResult(
        completion="negative",
        label="negative",
        confidence=0.7,
        probabilities=(0.7, 0.3),
        finish_reason="stop",
        prompt_tokens=20,
        completion_tokens=1,
    )
    results = [one] * unit.rows
    columns = made.input.columns
    table = to_table(rows, results, columns)
    dataset.commit(unit, table, tally(rows, results, columns), {})
    return unit.rows


def test_json_is_one_object_with_shards_and_rows(ask) -> None:
    result = ask("plan", "job.yaml", "--json")
    assert result.code == 0, result.err
    assert (result.json["shards"], result.json["rows"]) == (2, 300)


def test_the_histogram_counts_every_sampled_row(ask) -> None:
    facts = ask("plan", "job.yaml", "--json").json
    assert sum(facts["prompt_tokens_histogram"].values()) == facts["sampled_rows"] > 0


def test_token_counts_are_those_of_the_models_tokenizer(ask, model, make_tweets) -> None:
    """With every row sampled the estimate is the count itself: <bos>, instructions and row."""
    facts = ask("plan", "job.yaml", "--json", "--rows", "64").json
    texts = make_tweets(64)["text"].to_pylist()
    head = "Say how the writer of a tweet feels.\n\n"
    prompts = Tokenizer(model.path).encode_batch([f"{head}Tweet: {t}\nSentiment:" for t in texts])
    assert facts["sampled_rows"] == 64
    assert facts["prompt_tokens"] == sum(map(len, prompts))
    assert facts["prompt_tokens_longest"] == max(map(len, prompts))


def test_rows_limits_the_plan(ask) -> None:
    assert ask("plan", "job.yaml", "--json", "--rows", "7").json["rows"] == 7


def test_more_rows_than_there_are_means_all(ask) -> None:
    assert ask("plan", "job.yaml", "--json", "--rows", "9999").json["rows"] == 300


def test_the_columns_are_those_that_run_writes(ask) -> None:
    assert ask("plan", "job.yaml", "--json").json["columns"] == [
        "id",
        "text",
        "completion",
        "label",
        "confidence",
        "accepted",
        "raw_confidence",
        "probabilities",
        "finish_reason",
        "prompt_tokens",
        "completion_tokens",
        "error",
    ]


def test_set_and_output_change_the_plan_as_they_change_the_run(ask) -> None:
    arguments = ("--set", "output.keep=[id]", "--output", "elsewhere")
    facts = ask("plan", "job.yaml", "--json", *arguments).json
    assert facts["columns"][0:2] == ["id", "completion"]
    assert facts["output"] == "elsewhere"


def test_rows_that_will_fail_are_foretold(ask, tmp_path: Path) -> None:
    texts = pa.array([None if i % 10 == 0 else f"tweet {i}" for i in range(100)])
    pq.write_table(pa.table({"id": range(100), "text": texts}), tmp_path / "rows/shard-0.parquet")
    (tmp_path / "rows/shard-1.parquet").unlink()
    problems = ask("plan", "job.yaml", "--json").json["problems"]
    assert list(problems.values()) == [10]
    assert "'text'" in next(iter(problems))


@pytest.mark.parametrize("taken", [["label"], ["label", "input_label"]])
def test_output_columns_never_share_a_name(taken: list[str], ask, tmp_path: Path) -> None:
    """Input columns that are called as a result is, and as what such a one is renamed to."""
    table = pa.table({"id": [1], "text": ["a"]} | {name: ["x"] for name in taken})
    pq.write_table(table, tmp_path / "rows/shard-0.parquet")
    (tmp_path / "rows/shard-1.parquet").unlink()
    result = ask("plan", "job.yaml", "--json", "--set", "output.keep=null")
    assert result.code == 0, result.err
    assert len(set(result.json["columns"])) == len(result.json["columns"])


def test_a_json_number_beyond_64_bits_is_no_crash(ask, tmp_path: Path) -> None:
    lines = '{"text": "a", "id": 123456789012345678901234567890}\n{"text": "b", "id": 1}\n'
    (tmp_path / "rows.jsonl").write_text(lines)
    result = ask("plan", "job.yaml", "--json", "--set", "input.path=rows.jsonl")
    assert result.code in (0, 2), result.err


def test_plan_does_not_touch_the_output(ask, tmp_path: Path) -> None:
    ask("plan", "job.yaml")
    assert not (tmp_path / "out").exists()


def test_after_a_part_of_a_run_plan_says_what_a_resume_skips(ask) -> None:
    done = _commit_first_unit()
    facts = ask("plan", "job.yaml", "--json").json
    assert (facts["reused_rows"], facts["reused_units"]) == (done, 1)
    assert 0 < done < facts["rows"]


def test_on_a_screen_plan_says_what_a_resume_skips(ask) -> None:
    done = _commit_first_unit()
    assert f"{done} rows are there already, {300 - done} to do" in ask("plan", "job.yaml").out


def test_tokens_of_all_questions_of_a_row_are_not_taken_for_those_of_a_request(
    ask, tmp_path: Path
) -> None:
    """The mean, of whole rows, may be above the longest request."""
    questions = {name: {"predicate": f"Is it {name}?"} for name in ("urgent", "polite")}
    job = yaml.safe_load(_JOB) | {"questions": questions, "prompt": "Tweet: {text}"}
    del job["label"]
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    said = " ".join(ask("plan", "job.yaml").out.split())
    assert re.search(
        r"\d+ tokens a row in the mean with all its questions, \d+ the longest request", said
    )


def test_fresh_skips_nothing(ask) -> None:
    _commit_first_unit()
    assert ask("plan", "job.yaml", "--json", "--fresh").json["reused_rows"] == 0


def test_planning_fresh_deletes_nothing(ask, tmp_path: Path, files_of) -> None:
    _commit_first_unit()
    before = files_of(tmp_path / "out")
    ask("plan", "job.yaml", "--fresh")
    assert files_of(tmp_path / "out") == before


def test_plan_refuses_the_output_of_a_different_job(ask) -> None:
    _commit_first_unit()
    result = ask("plan", "job.yaml", "--set", 'prompt="Message: {text}"')
    assert result.code == 2
    assert "different job" in result.err


def test_the_plan_goes_to_stdout(ask) -> None:
    result = ask("plan", "job.yaml")
    assert result.code == 0
    assert "300 rows in 2 shards" in result.out
    assert "gemma-3-270m int4" in result.out
    assert result.err == ""


@pytest.mark.parametrize(("deadline", "said"), [("2s", "missed by about"), ("2d", "will be kept")])
def test_a_deadline_is_held_against_the_time_it_takes(deadline: str, said: str, ask) -> None:
    result = ask("plan", "job.yaml", "--set", f"resources.deadline={deadline}")

    assert f"{deadline}: " in result.out
    assert said in result.out


def _hours(begins_in: int) -> str:
    """A window of an hour that begins so many minutes from now, on the clocks of UTC."""
    begin = datetime.now(UTC) + timedelta(minutes=begins_in)
    window = f"{begin:%H:%M}-{begin + timedelta(hours=1):%H:%M}"
    return f'{_JOB}resources: {{hours: "{window}", timezone: UTC, deadline: 1h}}\n'


def test_a_job_that_has_to_wait_for_its_hours_is_told_when_it_is_done(ask) -> None:
    Path("job.yaml").write_text(_hours(120))
    shown = ask("plan", "job.yaml").out

    assert re.search(
        r"hours +\d\d:\d\d-\d\d:\d\d: nothing until \d\d:\d\d, done on \d+ \w+ at", shown
    )
    assert re.search(r"deadline +1h: missed by about \d+ (min|h)", shown)
    end = datetime.fromisoformat(ask("plan", "job.yaml", "--json").json["predicted_end"])
    assert timedelta(hours=1.9) < end - datetime.now(UTC) < timedelta(hours=3)


def test_a_job_within_its_hours_is_told_when_it_is_done(ask) -> None:
    Path("job.yaml").write_text(_hours(-5))
    shown = ask("plan", "job.yaml").out

    assert re.search(r"hours +\d\d:\d\d-\d\d:\d\d: done on \d+ \w+ at \d\d:\d\d, in", shown)
    assert "deadline  1h: it will be kept" in shown


def _without_disk(said: str) -> list[str]:
    """Whose free bytes change while tests run."""
    return [line for line in said.splitlines() if "of disk needed" not in line]


def test_cards_that_do_not_serve_are_left_out_as_a_run_leaves_them(ask) -> None:
    """A plan on a large and a small card is the one on the large card, and says so."""
    asked = ("plan", "job.yaml", "--set", "engine.kind=vllm", "--set", "model=gemma-3-27b")
    mixed = ask(*asked, "--gpus", "rtx3090,rtx4060")
    alone = ask(*asked, "--gpus", "rtx3090")

    assert mixed.code == 0, mixed.err
    assert _without_disk(mixed.out) == _without_disk(alone.out)
    assert "left out: gemma-3-27b int4 does not fit RTX 4060" in mixed.err


@pytest.mark.parametrize("token", [None, "hf_x"])
def test_what_fetching_the_model_takes_is_said_before(
    ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    (tmp_path / "job.yaml").write_text(
        _JOB.replace("model: gemma-3-270m", "model: gemma-3-27b").replace("{kind: simulated}", "{}")
    )
    said = ask("plan", "job.yaml", "--gpus", "rtx3090").out

    assert "download  17.2 GB from hf://google/gemma-3-27b-it-qat-q4_0-gguf" in said
    assert "22 min 56 s at 100 Mbit/s, once" in " ".join(said.split())
    assert "licence: Gemma Terms of Use" in said
    assert ("HF_TOKEN is set" in said) == bool(token)
    assert "34.4 GB of disk needed" in said
    told = ask("plan", "job.yaml", "--gpus", "rtx3090", "--json").json["download"]
    assert (told["size"], told["exact"], told["needs_token"]) == (17_200_000_000, True, True)
    assert told["seconds"] == 1376.0


def test_nothing_is_fetched_for_a_model_that_is_there(ask) -> None:
    assert ask("plan", "job.yaml", "--json").json["download"] is None
