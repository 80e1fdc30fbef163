"""The output folder is never another's: not another job's, not the input's, not a user's files'."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.test_bad_input import Case


@pytest.fixture(autouse=True)
def _input(tmp_path: Path, write_shards) -> None:
    write_shards(tmp_path / "rows", 40)


@pytest.mark.parametrize("place", ["file", "file/below", "file/far/below"])
def test_output_below_a_file_is_not_writable(place: str, ask, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    result = ask("run", Case(()).write(tmp_path).name, "--output", place)
    assert result.code == 2, result.err
    assert "output.path" in result.err
    assert "file" in result.err
    assert "--output" in result.err
    assert result.out == ""


def test_output_that_holds_other_files_is_left_alone(ask, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("mine")
    result = ask("run", Case(()).write(tmp_path).name)
    assert result.code == 2
    assert "out already holds files" in result.err
    assert "--output" in result.err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["notes.txt"]


def test_fresh_never_deletes_files_that_rackmill_did_not_write(ask, tmp_path: Path) -> None:
    """--fresh forgets an earlier run, not the photographs that lie in a folder named by mistake."""
    (tmp_path / "out/photos").mkdir(parents=True)
    (tmp_path / "out/notes.txt").write_text("mine")
    (tmp_path / "out/photos/cat.jpg").write_text("a cat")
    ask("run", Case(()).write(tmp_path).name, "--fresh", "--rows", "0")
    assert (tmp_path / "out/notes.txt").exists()
    assert (tmp_path / "out/photos/cat.jpg").exists()


def test_fresh_never_deletes_the_input(ask, tmp_path: Path) -> None:
    """--fresh with an output folder that is the input's, or holds it."""
    job = Case((), {"input": "input: {path: rows/*.parquet}", "output": "output: {path: .}"})
    ask("run", job.write(tmp_path).name, "--fresh", "--rows", "0")
    assert (tmp_path / "rows/shard-0.parquet").exists()


@pytest.mark.parametrize(
    ("key", "line", "changed"),
    [
        ("prompt", 'prompt: "Message: {text}"', "prompt"),
        ("label", "label: {choices: [bad, good], gold: sentiment}", "label"),
        ("engine", "sampling: {temperature: 0.5}", "sampling"),
        ("output", "output: {path: out, keep: [text]}", "output.keep"),
    ],
)
def test_output_of_a_different_job_is_refused_and_the_difference_named(
    key: str, line: str, changed: str, ask, tmp_path: Path
) -> None:
    assert ask("run", Case(()).write(tmp_path).name, "--rows", "0").code == 0
    result = ask("run", Case((), {key: line}).write(tmp_path).name, "--rows", "0")
    assert result.code == 2
    assert "out holds the output of a different job" in result.err
    assert changed in result.err
    assert "--fresh" in result.err


def test_changed_input_is_said_and_done_again(ask, tmp_path: Path, write_shards) -> None:
    job = Case(()).write(tmp_path).name
    assert ask("run", job, "--rows", "0").code == 0
    write_shards(tmp_path / "rows", 41)
    planned = ask("plan", job, "--rows", "0", "--json")
    assert [c["rows"] for c in planned.json["input_changes"]["changed"]] == [41]
    result = ask("run", job, "--rows", "0")
    assert result.code == 0, result.err
    assert "shard-0.parquet (40 → 41 rows" in result.err


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("engine", "engine: {kind: simulated, max_num_seqs: 7}"),
        ("engine", "engine: {kind: simulated}\nresources: {workers: 3}"),
        ("name", "name: relabel"),
        ("label", "label: {choices: [negative, positive]}\ntrust: {calibrate: off}"),
    ],
)
def test_operational_settings_may_change_between_runs(
    key: str, line: str, ask, tmp_path: Path
) -> None:
    assert ask("run", Case(()).write(tmp_path).name, "--rows", "0").code == 0
    result = ask("run", Case((), {key: line}).write(tmp_path).name, "--rows", "0")
    assert result.code == 0, result.err
