"""Right answers in a file of their own: found for their rows, or it is said what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline import job_from
from pipeline.driver.plan.plan import InputPlan, check_input
from pipeline.errors import UsageError
from pipeline.job.answer.label import Gold
from pipeline.output.rows.gold_file import no_choices, read_gold_file
from pipeline.output.runs.job_file import job_content
from tests.support.datasets import job_in, write_input
from tests.support.samples import BASE_JOB

CHOICES = ("negative", "positive")
[ASKED] = job_from(BASE_JOB | {"label": {"choices": list(CHOICES)}}).asked


def gold_file(folder: Path, *lines: str, name: str = "gold.csv") -> dict[str, str]:
    (folder / name).write_text("\n".join(["id,truth", *lines]) + "\n")
    return {"path": str(folder / name), "key": "id", "value": "truth"}


def planned(folder: Path, gold: dict[str, Any], **changes: Any) -> InputPlan:
    write_input(folder / "rows", 30)
    label = {"choices": list(CHOICES), "gold": gold}
    return check_input(job_in(folder, **({"label": label} | changes)))


def test_answers_are_found_by_key_whatever_its_type(tmp_path: Path) -> None:
    (tmp_path / "gold.jsonl").write_text('{"id": "3", "truth": "positive", "by": "me"}\n')
    gold = Gold(path=str(tmp_path / "gold.jsonl"), key="id", value="truth")

    found = read_gold_file(gold, ASKED)

    assert found.look_up(pa.chunked_array([[1, 3]])) == [None, "positive"]
    assert found.check_found() is None


def test_rows_without_an_answer_are_passed_over(tmp_path: Path) -> None:
    table = pa.table({"id": [1, 2, None], "truth": ["positive", None, "negative"]})
    pq.write_table(table, tmp_path / "gold.parquet")
    gold = Gold(path=str(tmp_path / "gold.parquet"), key="id", value="truth")

    assert read_gold_file(gold, ASKED).answers == {"1": "positive"}


def test_a_good_file_says_nothing(tmp_path: Path) -> None:
    assert planned(tmp_path, gold_file(tmp_path, "3,positive", "5,negative")).gold_notes == ()


def test_keys_that_no_row_has_are_said(tmp_path: Path) -> None:
    made = planned(tmp_path, gold_file(tmp_path, "3,positive", "95,negative", "x,positive"))

    [note] = made.gold_notes
    assert "2 of 3 keys" in note
    assert "(95, x) stand in no row of the input" in note


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["95,positive", "96,negative"], "none of the 2 keys"),
        (["3,positive", "4,negative", "3,negative"], "row 2: the key 3 stands there twice"),
        (["3,positiv", "4,negative"], r"'positiv' in 1 row \(did you mean positive\?\)"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_before_anything_runs(
    tmp_path: Path, lines: list[str], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        planned(tmp_path, gold_file(tmp_path, *lines))


def test_a_key_that_several_rows_have_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    rows = pa.table({"id": [1, 2, 2], "text": ["a", "b", "c"]})
    pq.write_table(rows, tmp_path / "rows" / "a.parquet")
    label = {"choices": list(CHOICES), "gold": gold_file(tmp_path, "2,positive")}

    with pytest.raises(UsageError, match=r"2 of .*gold.csv stands in 2 rows"):
        check_input(job_in(tmp_path, label=label))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"key": "idd"}, r"label.gold.key names 'idd'.*no such column(.|\n)*did you mean id\?"),
        ({"value": "true"}, "label.gold.value names 'true'"),
        ({"path": "nowhere.csv"}, "label.gold.path nowhere.csv"),
    ],
)
def test_what_the_file_lacks_is_named(tmp_path: Path, wrong: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        planned(tmp_path, gold_file(tmp_path, "3,positive") | wrong)


def test_a_key_that_the_input_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / "gold.csv").write_text("number,truth\n3,positive\n")
    gold = {"path": str(tmp_path / "gold.csv"), "key": "number", "value": "truth"}

    with pytest.raises(UsageError, match=r"label\.gold\.key names 'number'.*the input"):
        planned(tmp_path, gold)


def test_a_key_has_to_be_kept(tmp_path: Path) -> None:
    output = {"path": str(tmp_path / "out"), "keep": ["text"]}

    with pytest.raises(UsageError, match=r"keep it: output: \{keep: \[text, id\]\}"):
        planned(tmp_path, gold_file(tmp_path, "3,positive"), output=output)


def test_values_may_have_other_names(tmp_path: Path) -> None:
    gold = gold_file(tmp_path, "3,0", "4,1") | {"values": {"0": "negative", "1": "positive"}}

    assert planned(tmp_path, gold).gold_notes == ()


@pytest.mark.parametrize(
    "gold",
    [
        {},
        {"column": "a", "path": "g.csv", "key": "id", "value": "y"},
        {"path": "g.csv", "key": "id"},
        {"key": "id"},
    ],
)
def test_gold_is_a_column_or_a_whole_file(gold: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"label\.gold"):
        job_from(BASE_JOB | {"label": {"choices": ["a", "b"], "gold": gold}})


def test_the_file_is_found_again_from_any_folder(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    label = {"choices": ["a", "b"], "gold": {"path": "g.csv", "key": "id", "value": "y"}}
    kept = job_content(job_from(BASE_JOB | {"label": label}))

    assert kept["label"]["gold"]["path"] == str(tmp_path / "g.csv")
    assert json.loads(json.dumps(kept)) == kept


def test_no_choices_are_named_with_the_nearest() -> None:
    said, fix = no_choices(["negative", "Positive", "Positive", "other"], ASKED)

    assert "'Positive' in 2 rows (did you mean positive?), 'other' in 1 row" in said
    assert "values: {Positive: positive, other: …}" in fix
    assert no_choices(["negative"], ASKED) == ()


def test_the_values_to_copy_are_yaml_that_says_the_same() -> None:
    strange = ["negative ", "null", "a: b", "#x", "über alles", "-", 'say "hi"', "nega\ntive"]

    fixes = [no_choices([value], ASKED)[1] for value in strange]

    given = [yaml.safe_load(fix.partition("values: ")[2]) for fix in fixes]
    assert [next(iter(one)) for one in given] == strange
    assert given[0] == {"negative ": "negative"}
