"""The promise of one run of a schedule holds for the next, as long as its rows look alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.driver.trust.inherit import inherit
from pipeline.output.dataset import Dataset
from pipeline.output.verify.dataset import verify
from tests.support.datasets import begin, conclude_now
from tests.support.trusted import (
    bytes_of,
    commit_all,
    job_over,
    table_of,
    trusted,
    world,
    write_rows,
)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return trusted(tmp_path_factory.mktemp("first"), rows=1200)


def second(folder: Path, rows: int = 600, *, alike: bool) -> tuple[Dataset, list[str]]:
    """A run without right answers; where it is not ``alike`` nearly all rows are of one kind."""
    truth, probabilities = world(3000, seed=7)
    wanted = [n for n, one in enumerate(truth) if alike or one == "bad" or n % 10 == 0][:rows]
    truth, probabilities = [truth[n] for n in wanted], probabilities[wanted]
    write_rows(folder, truth, lambda row: False)
    plan, dataset = begin(job_over(folder))
    commit_all(plan, dataset, probabilities, lambda row: row == 3)
    conclude_now(plan, dataset)
    return dataset, truth


def test_a_run_that_looks_alike_keeps_the_promise(first: Dataset, tmp_path: Path) -> None:
    dataset, truth = second(tmp_path, alike=True)
    said: list[str] = []

    assert inherit(dataset, [("one", first)], job_over(tmp_path), said.append)

    table, summary = table_of(dataset), dataset.summary()
    assert summary is not None
    accepted = np.array([one is True for one in table["accepted"].to_pylist()])
    right = np.array([a == b for a, b in zip(table["label"].to_pylist(), truth, strict=True)])
    assert accepted.sum() > 300
    assert right[accepted].mean() > 0.95
    assert right.sum() > sum(
        a == b for a, b in zip(table["completion"].to_pylist(), truth, strict=True)
    )
    block = summary["trust"]["label"]
    assert block["acceptance"]["rows"] == accepted.sum()
    assert (block["inherited_from"], block["drift"]["found"], said) == ("one", False, [])
    assert verify(dataset.storage).faults == []


def test_a_run_that_differs_loses_it_and_fresh_right_answers_are_asked_for(
    first: Dataset, tmp_path: Path
) -> None:
    dataset, _ = second(tmp_path, alike=False)
    said: list[str] = []

    assert inherit(dataset, [("one", first)], job_over(tmp_path), said.append)

    summary = dataset.summary()
    assert summary is not None
    assert set(table_of(dataset)["accepted"].to_pylist()) == {None}
    assert summary["trust"]["label"]["acceptance"] is None
    [line] = said
    assert "its promise is taken back: no row is accepted" in line
    assert "rackmill review" in line
    assert line in (Path(dataset.storage.address()) / "_rackmill/report.md").read_text()


def test_right_answers_of_its_own_come_first(first: Dataset, tmp_path: Path) -> None:
    dataset = trusted(tmp_path, rows=400)
    before = bytes_of(dataset)

    assert not inherit(dataset, [("one", first)], job_over(tmp_path))
    assert bytes_of(dataset) == before


def test_without_an_earlier_promise_there_is_none_to_hold(tmp_path: Path) -> None:
    dataset, _ = second(tmp_path, 100, alike=True)

    assert not inherit(dataset, [], job_over(tmp_path))
