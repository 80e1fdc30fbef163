"""Labels that the model wrote, where its engine tells no log-probabilities."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.driver.trust.settings import TrustOptions
from pipeline.driver.trust.trust import trust
from pipeline.errors import UsageError
from pipeline.input.reader import UnitReader
from pipeline.output.columns.probabilities import WRITTEN
from pipeline.output.columns.results import RowResult, tally, to_table
from pipeline.output.dataset import Dataset
from pipeline.report.trust.words import lines
from pipeline.service.review.labels import open_material
from tests.support.datasets import begin, conclude_now
from tests.support.trusted import CHOICES, FAILED, bytes_of, job_over, table_of, write_rows

_ROWS = 200


def _written(label: str) -> RowResult:
    return RowResult(label, label, finish_reason="stop", prompt_tokens=5, completion_tokens=2)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Of every fifth row the right answer is known; one of eight of those labels is wrong."""
    folder = tmp_path_factory.mktemp("written")
    truth = [CHOICES[row % 2] for row in range(_ROWS)]
    write_rows(folder, truth, lambda row: row % 5 == 0)
    plan, dataset = begin(job_over(folder))
    reader = UnitReader(plan.input.files.shards, plan.input.files.schema)
    for unit in plan.missing:
        table = reader.read(unit).table
        ids = table.column("id").to_pylist()
        results = [
            FAILED if row == 7 else _written(CHOICES[(row + (row % 40 == 0)) % 2]) for row in ids
        ]
        columns = plan.input.columns
        made = to_table(table, results, columns)
        dataset.commit(unit, made, tally(table, results, columns), {"model": "m"})
    reader.close()
    conclude_now(plan, dataset)
    return dataset


def test_summary_and_reports_say_once_why_there_is_no_confidence(output: Dataset) -> None:
    folder = Path(output.storage.address())
    summary = output.summary() or {}

    assert summary["no_confidence"] == WRITTEN
    for name in ("report.md", "report.html"):
        text = (folder / "_rackmill" / name).read_text()
        assert text.lower().count("so the model wrote its labels") == 2  # with what trust says


def test_how_right_labels_are_is_known_from_right_answers_alone(output: Dataset) -> None:
    before = bytes_of(output)
    table = table_of(output)
    made = trust(output.storage.address())
    block = made.questions["label"]

    assert block["weighted_accuracy"]["value"] == pytest.approx(35 / 40)
    assert block["weighted_accuracy"]["low"] < 35 / 40 < block["weighted_accuracy"]["high"]
    assert (block["rows"], block["gold"]["rows"]) == (_ROWS - 1, 40)
    assert block["before"] is None
    assert block["calibration"] is None
    assert block["acceptance"] is None
    said = "\n".join(lines(block, "out"))
    assert f"{WRITTEN}; nothing is calibrated, nor accepted by confidence" in said
    assert "accuracy 0.875" in said
    assert "calibration error" not in said
    assert table_of(output).equals(table)
    assert bytes_of(output) == before


def test_a_promise_by_confidence_is_refused(output: Dataset) -> None:
    with pytest.raises(UsageError, match=r"no row of .* can be accepted by its confidence"):
        trust(output.storage.address(), TrustOptions(error=0.05))


def test_show_says_why_once(output: Dataset) -> None:
    told = CliRunner().invoke(app, ["show", output.storage.address()])

    assert told.exit_code == 0
    assert " ".join(told.output.split()).count(WRITTEN) == 1


def test_a_sample_for_review_is_drawn_by_chance_alone(output: Dataset) -> None:
    said: list[str] = []
    material = open_material(output.storage.address(), None, 20, said.append)

    assert said == [f"{WRITTEN}: the sample is drawn by chance alone"]
    assert len(material.sample.rows) == 20
    assert all(row.random is not None for row in material.sample.rows)
