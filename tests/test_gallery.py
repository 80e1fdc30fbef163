"""The jobs in jobs/ and their data: each can be tried at once, and nothing in them is doubted."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import Job, load_job
from pipeline.driver.plan.first_rows import first_rows
from pipeline.driver.plan.plan import InputPlan, check_input, make_plan
from pipeline.driver.trial.client import WarmEngine
from pipeline.driver.trial.trial import Trial, try_rows

pytestmark = pytest.mark.early

ROOT = Path(__file__).parent.parent
JOBS = sorted(path.stem for path in (ROOT / "jobs").glob("*.yaml"))
DATA = sorted(path.name for path in (ROOT / "jobs/data").iterdir() if path.suffix != ".md")
_SIMULATED = "engine.kind=simulated"
# reads a folder of the user's own, to which files are added
_ELSEWHERE = {"nightly-tweets": "jobs/data/tweets"}


@pytest.fixture(autouse=True)
def _from_the_top_of_a_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    monkeypatch.chdir(tmp_path)


def job(name: str, *settings: str) -> Job:
    elsewhere = [f"input.path={_ELSEWHERE[name]}"] if name in _ELSEWHERE else []
    return load_job(Path(f"jobs/{name}.yaml"), [*elsewhere, *settings])


def tried(made: Job, rows: int, engine: WarmEngine | None = None) -> Trial:
    return try_rows(made, rows, lambda line: None, engine)


def inputs(name: str) -> InputPlan:
    return check_input(job(name, _SIMULATED))


@pytest.mark.parametrize("name", JOBS)
def test_each_is_in_the_table_of_the_readme(name: str) -> None:
    table = (ROOT / "jobs/README.md").read_text(encoding="utf-8").partition("## Keys")[0]
    assert f"| `{name}.yaml` |" in table


@pytest.mark.parametrize("name", JOBS)
def test_each_writes_a_folder_of_its_own_name(name: str) -> None:
    made = job(name)
    assert (made.name, made.output.path) == (name, f"runs/{name}")


@pytest.mark.parametrize("name", JOBS)
def test_its_data_are_read_without_a_remark_and_are_a_hundred_rows_or_more(name: str) -> None:
    found = inputs(name)
    assert (*found.files.notes, *found.files.waiting) == ()
    assert found.rows >= 100


@pytest.mark.parametrize("name", JOBS)
def test_no_two_rows_ask_the_same(name: str) -> None:
    asked, _, _ = first_rows(inputs(name), 1000)
    texts = [json.dumps(dict(row), sort_keys=True, default=str) for row in asked]
    assert len(texts) == len(set(texts))


@pytest.mark.parametrize("name", JOBS)
def test_right_answers_are_choices_and_each_choice_is_one(name: str) -> None:
    _, _, golds = first_rows(inputs(name), 1000)
    for key, asked in job(name).graded.items():
        if asked.gold_column is not None:
            name = key.split(".")[-2]
            known = {row[name] for row in golds if name in row}
            assert known == set(asked.options)


@pytest.mark.parametrize("name", JOBS)
def test_every_row_of_it_is_answered(name: str) -> None:
    trial = tried(job(name, _SIMULATED), 1000)
    assert [row.result.error for row in trial.rows if row.result.error is not None] == []
    assert len(trial.rows) == inputs(name).rows


@pytest.mark.parametrize("name", JOBS)
def test_it_can_be_planned_and_no_row_is_expected_to_fail(name: str) -> None:
    said: list[str] = []
    plan = make_plan(inputs(name), fresh=True, report=said.append)
    assert said == []
    assert plan.sample.problems == {}


@pytest.mark.parametrize("name", DATA)
def test_where_data_come_from_is_said(name: str) -> None:
    said = (ROOT / "jobs/data/README.md").read_text(encoding="utf-8")
    assert f"| `{name}` |" in said or f"| `{name}/` |" in said


# -- with the real engine


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmEngine]:
    engine = WarmEngine(tmp_path_factory.mktemp("w") / "w")
    yield engine
    engine.end()


@pytest.mark.engine
def test_headlines_are_put_into_topics_better_than_by_chance(warm: WarmEngine) -> None:
    trial = tried(job("topics"), 100, warm)
    assert trial.graded == 100
    assert trial.right >= 40  # a fifth would be chance


@pytest.mark.engine
def test_several_questions_of_a_tweet_are_answered_and_its_sentiment_rightly(
    warm: WarmEngine,
) -> None:
    trial = tried(job("questions"), 60, warm)
    assert [len(row.result.answers) for row in trial.rows] == [5] * 60
    assert trial.graded == 60
    assert trial.right >= 42  # half would be chance


@pytest.mark.engine
def test_a_base_model_answers_messages_by_the_template_that_the_job_names(warm: WarmEngine) -> None:
    trial = tried(job("chat"), 12, warm)
    assert [row.result.error for row in trial.rows] == [None] * 12
    assert any((row.result.completion or "").strip() for row in trial.rows)


@pytest.mark.engine
def test_orders_become_objects_with_the_schemas_properties(warm: WarmEngine) -> None:
    made = job("extract")
    trial = tried(made, 12, warm)
    assert [row.result.error for row in trial.rows] == [None] * 12
    for row in trial.rows:
        items = row.result.fields["items"]
        assert isinstance(row.result.fields["customer"], str)
        assert items
        assert all(set(item) == {"name", "quantity"} for item in items)


@pytest.mark.engine
def test_sense_is_likelier_than_nonsense(warm: WarmEngine) -> None:
    trial = tried(job("score"), 40, warm)
    sums = [row.result.scores.logprobs.sum() for row in trial.rows if row.result.scores is not None]
    pairs = list(zip(sums[::2], sums[1::2], strict=True))
    assert all(math.isfinite(one) for one in sums)
    assert sum(sense > nonsense for sense, nonsense in pairs) >= 18
