"""A finished output whose model leans to one label and is too sure, without an engine."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import Job
from pipeline.driver.plan.plan import Plan
from pipeline.driver.trust.settings import TrustOptions
from pipeline.driver.trust.trust import trust
from pipeline.errors import RowError, RowErrorType, UsageError
from pipeline.input.reader import UnitReader
from pipeline.output.columns.results import RowResult, tally, to_table
from pipeline.output.dataset import Dataset
from pipeline.storage.base import open_storage
from tests.support.datasets import begin, conclude_now, job_in

CHOICES = ("bad", "good")
ROWS = 1200
FAILED = RowResult(error=RowError(RowErrorType.TIMEOUT, "not finished", 1), prompt_tokens=5)


def world(rows: int = ROWS, seed: int = 1, noise: float = 1.2) -> tuple[list[str], np.ndarray]:
    """Of each row what is true, and the model's probabilities [rows, 2]."""
    dice = np.random.default_rng(seed)
    truth = dice.integers(0, 2, rows)
    score = 2.0 * (2 * truth - 1) + dice.normal(0, noise, rows)
    odds = np.exp(-(1.8 * score + 2.5))  # too sure, and leaning to "good"
    good = 1 / (1 + odds)
    return [CHOICES[one] for one in truth], np.column_stack([1 - good, good])


TRUTH, PROBABILITIES = world(ROWS)


def result_of(probabilities: np.ndarray, failed: bool = False) -> RowResult:
    if failed:
        return FAILED
    pair = tuple(probabilities.tolist())
    best = max(range(len(pair)), key=pair.__getitem__)
    return RowResult(
        CHOICES[best], CHOICES[best], pair[best], finish_reason="stop", prompt_tokens=5,
        completion_tokens=1, probabilities=pair,
    )  # fmt: skip


def write_rows(
    folder: Path, truth: list[str], known: Callable[[int], bool], name: str = "a", start: int = 0
) -> None:
    """An input file whose column ``truth`` is null but for the rows that are ``known``."""
    (folder / "rows").mkdir(parents=True, exist_ok=True)
    ids = list(range(start, start + len(truth)))
    gold = [one if known(i) else None for i, one in zip(ids, truth, strict=True)]
    texts = [f"text {i}" for i in ids]
    table = pa.table({"id": ids, "text": texts, "truth": pa.array(gold, pa.string())})
    pq.write_table(table, folder / "rows" / f"{name}.parquet")


def commit_all(
    plan: Plan, dataset: Dataset, probabilities: np.ndarray, fails: Callable[[int], bool]
) -> None:
    """Every missing unit, as a worker would."""
    reader = UnitReader(plan.input.files.shards, plan.input.files.schema)
    columns = plan.input.columns
    for unit in plan.missing:
        table = reader.read(unit).table
        ids = table.column("id").to_pylist()
        results = [result_of(probabilities[i], fails(i)) for i in ids]
        made = to_table(table, results, columns)
        dataset.commit(unit, made, tally(table, results, columns), {"model": "m"})
    reader.close()


def job_over(folder: Path, gold: Any = "truth", **changes: Any) -> Job:
    label: dict[str, Any] = {"choices": list(CHOICES)} | ({"gold": gold} if gold else {})
    return job_in(folder, **({"label": label} | changes))


def trusted(
    folder: Path,
    *,
    rows: int = ROWS,
    gold: Any = "truth",
    known: Callable[[int], bool] = lambda row: row % 10 == 0,
    fails: Callable[[int], bool] = lambda row: row % 97 == 5,
    changes: Mapping[str, Any] | None = None,
) -> Dataset:
    """A run over ``rows`` rows that has come to its end."""
    truth, probabilities = world(rows)
    write_rows(folder, truth, known)
    plan, dataset = begin(job_over(folder, gold, **(changes or {})))
    commit_all(plan, dataset, probabilities, fails)
    conclude_now(plan, dataset)
    return dataset


def table_of(dataset: Dataset) -> pa.Table:
    """All its rows, in input order."""
    folder = Path(dataset.storage.address())
    return pa.concat_tables([pq.read_table(f) for f in sorted(folder.glob("*.parquet"))])


def bytes_of(dataset: Dataset) -> dict[str, bytes]:
    """Its data files, and what is said of it."""
    folder = Path(dataset.storage.address())
    kept = [*folder.glob("*.parquet"), *(folder / "_rackmill").glob("*.*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(kept)}


def copy_of(folder: Path, tmp_path: Path) -> Dataset:
    shutil.copytree(folder / "out", tmp_path / "out")
    return Dataset(open_storage(str(tmp_path / "out")))


def the_job(folder: Path, dataset: Dataset, gold: Any = "truth", **changes: Any) -> Job:
    """The job over the rows in ``folder`` whose copied output ``dataset`` is."""
    places = {
        "model": str(folder / "model"),
        "input": {"path": str(folder / "rows")},
        "output": {"path": dataset.storage.address()},
    }
    return job_over(folder, gold, **(places | changes))


def gold_file(tmp_path: Path, rows: Any = range(0, ROWS, 10), name: str = "gold.csv") -> str:
    lines = [f"{row},{TRUTH[row]}" for row in rows]
    (tmp_path / name).write_text("\n".join(["id,answer", *lines]) + "\n")
    return str(tmp_path / name)


def share_right(table: pa.Table, column: str, where: str | None = None) -> float:
    pairs = zip(table[column].to_pylist(), table["id"].to_pylist(), strict=True)
    chosen = table[where].to_pylist() if where else [True] * len(table)
    right = [
        label == TRUTH[row]
        for (label, row), one in zip(pairs, chosen, strict=True)
        if one and label is not None
    ]
    return sum(right) / len(right)


def refused(dataset: Dataset, said: str, **options: Any) -> None:
    before = bytes_of(dataset)
    with pytest.raises(UsageError, match=said):
        trust(dataset.storage.address(), TrustOptions(**options))
    assert bytes_of(dataset) == before
