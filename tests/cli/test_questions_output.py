"""What the commands say of an output whose rows were asked several questions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import Job, load_job
from pipeline.driver.plan.provenance import provenance
from pipeline.errors import RowError, RowErrorType
from pipeline.output.columns.results import RowResult, tally, to_table
from pipeline.output.commit.records import PAGE, REPORT, SUMMARY
from pipeline.output.dataset import Dataset
from pipeline.output.manifest import read_manifest
from pipeline.output.verify.promises import check_table
from pipeline.storage.base import open_storage
from tests.support.datasets import begin, conclude_now

pytestmark = pytest.mark.usefixtures("large_units")

_JOB = """\
name: demo
model: gemma-3-270m
input: {path: rows.parquet}
prompt: "{text}"
questions:
  mood:    {ask: "Mood:", choices: [good, bad], gold: mood}
  urgent:  {predicate: "Is it urgent?", gold: urgent}
  quality: {score: [poor, fair, fine], ask: "Quality:"}
output: {path: out}
engine: {kind: simulated}
"""
_ROWS = 150
_FAILED = 7


def _choice(label: str, choices: tuple[str, ...], confidence: float) -> RowResult:
    rest = (1 - confidence) / (len(choices) - 1)
    sure = tuple(confidence if one == label else rest for one in choices)
    return RowResult(
        label, label, confidence, finish_reason="stop", completion_tokens=1, probabilities=sure
    )


def _result(row: int, wrong: int) -> RowResult:
    """Of a row whose mood is good and that is urgent; the mood of the first ``wrong`` is said to be
    bad."""
    if row == _FAILED:
        error = RowError(RowErrorType.TIMEOUT, "question 'mood': too late", 1)
        return RowResult(error=error, prompt_tokens=9)
    answers = (
        _choice("bad" if row < wrong else "good", ("good", "bad"), 0.6 + row / 1000),
        _choice("yes", ("no", "yes"), 0.9),
        _choice("fair", ("poor", "fair", "fine"), 0.5 if row == 20 else 0.8),
    )
    return RowResult(
        finish_reason="stop", prompt_tokens=9, completion_tokens=3, requests=3, answers=answers
    )


def write(job: Job, wrong: int = 3, answers: Callable[[int], RowResult] | None = None) -> None:
    """The finished output of ``job``, without an engine."""
    plan, dataset = begin(job)
    table = pq.read_table("rows.parquet")
    for unit in plan.missing:
        rows = table.slice(unit.start, unit.rows)
        numbers = range(unit.start, unit.stop)
        results = [answers(n) if answers else _result(n, wrong) for n in numbers]
        columns = plan.input.columns
        made = to_table(rows, results, columns), tally(rows, results, columns)
        dataset.commit(unit, *made, provenance(plan))
    conclude_now(plan, dataset)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a job, its rows and its finished output."""
    folder = tmp_path_factory.mktemp("written")
    texts = [f"text {n}" for n in range(_ROWS)]
    rows = pa.table({"text": texts, "mood": ["good"] * _ROWS, "urgent": [True] * _ROWS})
    pq.write_table(rows, folder / "rows.parquet")
    (folder / "job.yaml").write_text(_JOB)
    with chdir(folder):
        write(load_job(Path("job.yaml")))
    return folder


@pytest.fixture(autouse=True)
def job(tmp_path: Path, ask: Any, written: Path) -> Job:
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    return load_job(Path("job.yaml"))


def test_a_whole_output_is_verified_question_by_question(ask: Any) -> None:
    assert ask("verify", "out").code == 0


def test_an_answer_that_its_record_does_not_count_is_found() -> None:
    dataset = Dataset(open_storage("out"))
    manifest = read_manifest(dataset.manifest() or {}, "out")
    record = next(iter(dataset.state().commits.values()))
    table = dataset.read_rows(record)
    first, *others = table["urgent"].to_pylist()
    place = table.column_names.index("urgent")
    turned = table.set_column(place, table.schema.field("urgent"), [[not first, *others]])

    assert check_table(table, record, manifest) == []
    [flaw] = check_table(turned, record, manifest)
    assert "question_labels" in flaw.what


def test_probabilities_that_do_not_sum_to_one_are_found() -> None:
    dataset = Dataset(open_storage("out"))
    manifest = read_manifest(dataset.manifest() or {}, "out")
    record = next(iter(dataset.state().commits.values()))
    table = dataset.read_rows(record)
    rows = table["mood_probabilities"].to_pylist()
    rows[0] = {"good": 0.9, "bad": 0.9}
    field = table.schema.field("mood_probabilities")
    place = table.column_names.index(field.name)
    wrong = table.set_column(place, field, pa.array(rows, field.type))

    found = [flaw.what for flaw in check_table(wrong, record, manifest)]
    assert any("mood_probabilities do not sum to 1" in what for what in found)


def test_the_summary_has_each_question(ask: Any) -> None:
    told = ask("run", "job.yaml", "--json").json["questions"]

    assert told["mood"]["labels"] == {"good": _ROWS - 4, "bad": 3}
    assert told["mood"]["accuracy"] == pytest.approx(1 - 3 / (_ROWS - 1), abs=1e-4)
    assert told["urgent"]["accuracy"] == 1
    assert (told["quality"]["accuracy"], told["quality"]["graded"]) == (None, 0)


def test_the_end_of_a_run_has_a_line_for_each_question(ask: Any) -> None:
    told = ask("run", "job.yaml").err

    assert "mood: good 146 · bad 3 · agreement 0.980 over 149" in told
    assert "urgent: yes 149 · agreement 1.000 over 149" in told
    assert "quality: fair 149" in told


def test_the_reports_have_a_part_for_each_question() -> None:
    report = Path("out", REPORT).read_text(encoding="utf-8")
    page = Path("out", PAGE).read_text(encoding="utf-8")

    assert "| mood | good 146 · bad 3 | 0.980 over 149 rows |" in report
    assert "| mood ↓, label → | bad | good |" in report
    assert all(f"<h2>{name}</h2>" in page for name in ("mood", "urgent", "quality"))
    assert "98.0% of 149 graded rows agree with the right answers" in page
    assert "mood_probabilities" not in page + report


def test_the_wrong_rows_are_shown_with_what_would_be_right(ask: Any) -> None:
    lines = ask("show", "out", "--wrong").out.splitlines()

    assert len(lines) == 3
    assert all("✗ mood bad, urgent true" in line and "gold: mood good" in line for line in lines)


def test_the_least_confident_is_so_in_the_question_it_is_least_sure_of(ask: Any) -> None:
    told = ask("show", "out", "--least-confident", "--rows", 2, "--json").json["rows"]

    assert [row["text"] for row in told] == ["text 20", "text 0"]


def test_a_condition_may_name_any_questions_columns(ask: Any) -> None:
    where = "NOT urgent OR quality_expectation > 1 OR mood = 'bad'"
    assert len(ask("show", "out", "--where", where, "--json").json["rows"]) == 3


def test_it_is_exported_with_all_columns(ask: Any) -> None:
    assert ask("export", "out", "out.csv").code == 0
    head, first, *_ = Path("out.csv").read_text(encoding="utf-8").splitlines()

    assert "mood_probabilities" in head
    assert "true" in first


class TestCompare:
    @pytest.fixture(autouse=True)
    def _another(self, job: Job) -> None:
        other = job.output.model_copy(update={"path": "other"})
        write(job.model_copy(update={"output": other}), wrong=9)

    def test_each_question_is_compared_by_itself(self, ask: Any) -> None:
        told = ask("compare", "out", "other", "--json").json

        assert (told["answered"], told["same"]) == (149, 144)
        assert set(told["questions"]) == {"mood", "urgent", "quality"}
        mood, urgent = (told["questions"][name] for name in ("mood", "urgent"))
        assert (mood["same"], mood["first_right"], mood["second_right"]) == (144, 146, 141)
        assert (urgent["same"], urgent["first_right"]) == (149, 149)

    def test_for_people_too(self, ask: Any) -> None:
        told = ask("compare", "out", "other").out

        assert "mood: answers differ in 5   accuracy a 0.980" in told
        assert "quality: answers differ in 0" in told


def test_other_right_answers_are_the_same_job(ask: Any) -> None:
    told = ask("run", "job.yaml", "--json", "--set", "questions.quality.gold=mood")

    assert told.json["reused"] == _ROWS


def test_another_question_is_another_job(ask: Any) -> None:
    told = ask("run", "job.yaml", "--set", 'questions.urgent.predicate="Is it late?"')

    assert told.code == 2
    assert "questions" in told.err


def test_a_gold_column_that_is_not_there_is_named_with_its_key(ask: Any) -> None:
    told = ask("plan", "job.yaml", "--set", "questions.mood.gold=mod")

    assert told.code == 2
    assert "questions.mood.gold names 'mod'" in told.err
    assert "mood" in told.err


def test_gold_values_that_are_no_choices_are_doubted_with_the_fix(ask: Any) -> None:
    told = ask("plan", "job.yaml", "--output", "new", "--set", "questions.quality.gold=mood")

    assert "none of the choices" in told.out + told.err
    assert "questions: {quality: {gold: {column: mood, values: {good: " in told.out + told.err


def test_plan_shows_what_each_question_asks(ask: Any) -> None:
    told = ask("plan", "job.yaml", "--output", "new", "--show", 1).out

    assert "Mood:  → mood: good, bad" in told
    assert "Is it urgent? Yes or no:  → urgent: no, yes" in told


def test_try_answers_every_question(ask: Any) -> None:
    told = ask("try", "job.yaml", "--rows", 2, "--json").json["rows"]

    assert set(told[0]["answers"]) == {"mood", "urgent", "quality"}
    assert isinstance(told[0]["answers"]["urgent"]["answer"], bool)
    assert 0 <= told[0]["answers"]["quality"]["expectation"] <= 2
    assert told[0]["golds"] == {"mood": "good", "urgent": "yes"}


class TestTrust:
    """A model whose moods lean to good and whose urgency is known of all rows."""

    @pytest.fixture
    def trusted(self, tmp_path: Path) -> dict[str, Any]:
        moods = ["bad" if n % 2 else "good" for n in range(_ROWS)]
        urgent = [n % 3 > 0 for n in range(_ROWS)]
        texts = [f"text {n}" for n in range(_ROWS)]
        rows = pa.table({"text": texts, "mood": moods, "urgent": urgent})
        pq.write_table(rows, tmp_path / "rows.parquet")
        made = load_job(Path("job.yaml"), ["output.path=leaning"])

        def answered(row: int) -> RowResult:
            if row == _FAILED:
                return _result(row, 0)
            good = 0.9 if moods[row] == "good" else 0.7
            yes = 0.45 if urgent[row] else 0.2
            answers = (
                _choice("good", ("good", "bad"), good),
                _choice("no", ("no", "yes"), 1 - yes),
                _choice("fair", ("poor", "fair", "fine"), 0.8),
            )
            return RowResult(prompt_tokens=9, completion_tokens=3, requests=3, answers=answers)

        write(made, answers=answered)
        return {row["text"]: row for row in pq.read_table("leaning").to_pylist()}

    def test_each_question_is_calibrated_by_itself_at_the_end_of_a_run(
        self, trusted: dict[str, Any]
    ) -> None:
        for number, row in enumerate(trusted.values()):
            if number == _FAILED:
                assert (row["mood"], row["urgent_probability"]) == (None, None)
                continue
            assert row["mood"] == row["input_mood"]
            assert row["urgent"] == row["input_urgent"] == (row["urgent_probability"] > 0.5)
            assert row["urgent_raw_confidence"] == pytest.approx(0.55 if row["urgent"] else 0.8)
            assert row["quality"] == "fair"
            assert row["quality_expectation"] == pytest.approx(1.0)
            assert row["quality_accepted"] is None

    def test_it_is_counted_and_verified_anew(self, ask: Any, trusted: dict[str, Any]) -> None:
        assert len(trusted) == _ROWS
        assert ask("verify", "leaning").code == 0
        told = json.loads(Path("leaning", SUMMARY).read_text())["questions"]
        assert (told["mood"]["accuracy"], told["urgent"]["accuracy"]) == (1, 1)

    def test_a_named_file_without_right_answers_is_refused(
        self, ask: Any, trusted: dict[str, Any]
    ) -> None:
        assert len(trusted) == _ROWS
        Path("empty.csv").write_text("text,right\ntext 1,\n")
        before = {path: path.read_bytes() for path in Path("leaning").glob("*.parquet")}

        told = ask("trust", "leaning", "--gold", "mood=empty.csv")

        assert told.code == 2
        assert "questions.mood.gold: empty.csv holds no right answer" in told.err
        assert "rackmill review leaning --question mood" in told.err
        assert {path: path.read_bytes() for path in Path("leaning").glob("*.parquet")} == before

    def test_the_same_again_changes_no_byte(self, ask: Any, trusted: dict[str, Any]) -> None:
        assert len(trusted) == _ROWS
        before = {path: path.read_bytes() for path in Path("leaning").glob("*.parquet")}
        assert ask("trust", "leaning").code == 0
        assert {path: path.read_bytes() for path in Path("leaning").glob("*.parquet")} == before
