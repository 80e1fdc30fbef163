"""A schedule's runs, one after the other, over input that changes: without an engine."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from pipeline.driver.conclude import RunOutcome, conclude
from pipeline.driver.run import RunOptions
from pipeline.errors import UsageError
from pipeline.input.changes.content import with_contents
from pipeline.input.shard import Shard
from pipeline.job.job import Job
from pipeline.output.growing.growing import GrowingDataset
from pipeline.output.verify.dataset import verify
from pipeline.report.summary import Summary
from pipeline.service.scheduler import run_once as performing
from pipeline.service.scheduler.run_once import ScheduledRun, run_once
from tests.support.datasets import begin, commit_unit, job_in, rows_of

pytestmark = pytest.mark.usefixtures("large_units")

NIGHT = datetime(2026, 11, 24, 2, tzinfo=UTC)


class PowerCut(Exception):
    pass


class Nights:
    """The schedule of a job over ``rows``, run by run."""

    def __init__(self, folder: Path, out: str) -> None:
        self.folder, self.out = folder, out
        self.fs, self.root = fsspec.core.url_to_fs(out)
        (folder / "rows").mkdir()
        self.number = 0
        self.units: int | None = None  # after which the power fails
        self.changes: dict[str, Any] = {}

    def write(self, name: str, start: int, stop: int, *, rows_in_group: int = 100) -> None:
        table = rows_of(start, stop)
        pq.write_table(table, self.folder / f"rows/{name}.parquet", row_group_size=rows_in_group)

    def run(self, **options: Any) -> ScheduledRun:
        self.number += 1
        job = job_in(self.folder, output={"path": self.out}, **self.changes)
        return run_once(job, NIGHT + timedelta(days=self.number), **options)

    def work(self, job: Job, options: RunOptions, *_: Any) -> Summary:
        plan, dataset = begin(job, files=options.files)
        for done, unit in enumerate(plan.missing):
            if done == self.units:
                raise PowerCut
            commit_unit(plan, dataset, unit, text=f"answer of run {self.number}:")
        return conclude(plan, dataset, RunOutcome(), time.time())

    def table(self) -> pa.Table:
        found = pyarrow.dataset.dataset(self.root, filesystem=self.fs, partitioning="hive")
        return found.to_table()

    def ids(self) -> list[int]:
        return sorted(self.table().column("id").to_pylist())

    def check(self) -> None:
        for run in GrowingDataset(self.out).published():
            assert verify(run.storage).faults == []


@pytest.fixture(params=["disk", "object store"])
def nights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Nights:
    on_disk = request.param == "disk"
    made = Nights(tmp_path, str(tmp_path / "out") if on_disk else f"memory:/{tmp_path}/out")
    monkeypatch.setattr(performing, "run", made.work)
    return made


def test_each_run_adds_what_is_new_and_says_which_run_it_was(nights: Nights) -> None:
    nights.write("a", 0, 300)
    nights.run()
    nights.write("b", 300, 400)
    done = nights.run()

    assert (done.increment.rows, done.run) == (100, "2026-11-26T02-00-00Z")
    assert nights.ids() == list(range(400))
    runs = nights.table().column("run").to_pylist()
    assert {run: runs.count(run) for run in set(runs)} == {
        "2026-11-25T02-00-00Z": 300,
        "2026-11-26T02-00-00Z": 100,
    }
    nights.check()


def test_a_run_without_anything_new_leaves_no_trace(nights: Nights) -> None:
    nights.write("a", 0, 10)
    nights.run()
    before = sorted(nights.fs.find(nights.root))
    done = nights.run()
    assert (done.run, done.summary) == (None, None)
    assert sorted(nights.fs.find(nights.root)) == before


def test_of_a_file_that_grew_only_the_new_rows_are_computed(nights: Nights) -> None:
    nights.write("a", 0, 300)
    nights.run()
    nights.write("a", 0, 450)
    assert nights.run().increment.rows == 150
    assert nights.ids() == list(range(450))
    nights.check()


def _ids_by_run(nights: Nights) -> list[int]:
    """Of each published run, how many rows readers see."""
    runs = nights.table().column("run").to_pylist()
    return [runs.count(run) for run in sorted(set(runs))]


def test_a_file_that_is_being_written_waits_for_the_next_run(nights: Nights) -> None:
    nights.write("a", 0, 200)
    nights.write("b", 200, 300)
    path = nights.folder / "rows/b.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    (nights.folder / "rows/c.parquet.part").write_bytes(whole)
    done = nights.run()
    assert nights.ids() == list(range(200))
    assert [name in " ".join(done.increment.left) for name in ("b.parquet", "c.parquet.part")] == [
        True,
        True,
    ]

    path.write_bytes(whole)
    assert nights.run().increment.rows == 100
    assert nights.ids() == list(range(300))
    nights.check()


def test_a_run_that_finds_only_half_files_ends_well(nights: Nights) -> None:
    (nights.folder / "rows/a.parquet").write_bytes(b"PAR1 and more to come")
    assert nights.run().summary is None


def test_a_file_that_is_written_to_while_it_is_looked_at_waits(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights.write("a", 0, 200)
    nights.write("b", 200, 300)

    def append(shards: tuple[Shard, ...]) -> tuple[Shard, ...]:
        if len(shards) > 1:
            with (nights.folder / "rows/b.parquet").open("ab") as file:
                file.write(b"more")
        return with_contents(shards)

    monkeypatch.setattr(performing, "with_contents", append)
    done = nights.run()
    assert nights.ids() == list(range(200))
    assert ["b.parquet" in line for line in done.increment.left] == [True]


def test_a_touched_or_copied_file_is_not_done_again(nights: Nights) -> None:
    nights.write("a", 0, 200)
    nights.run()
    os.utime(nights.folder / "rows/a.parquet", (1, 1))
    assert nights.run().increment.shards == ()


@pytest.mark.parametrize("power", [True, False])
def test_of_a_line_that_went_on_the_rest_of_the_file_stays(
    nights: Nights, power: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = nights.folder / "rows/a.csv"
    path.write_text("id,text\n1,a\n2,b\n3,c")
    nights.run()
    before = {p: nights.fs.cat_file(p) for p in nights.fs.find(nights.root) if "000000.par" in p}
    path.write_text("id,text\n1,a\n2,b\n3,cde\n4,f\n")
    if not power:
        with monkeypatch.context() as patch:
            patch.setattr(GrowingDataset, "_move", lambda *_: _cut())
            with pytest.raises(PowerCut):
                nights.run()
        assert nights.ids() == [1, 2]
    done = nights.run()

    assert done.increment.rows == (2 if power else 0)
    table = nights.table().sort_by("id")
    assert table.column("text").to_pylist() == ["a", "b", "cde", "f"]
    assert _ids_by_run(nights) == [2, 2]
    for path_before, content in before.items():
        assert nights.fs.cat_file(path_before) == content
    nights.check()

    path.write_text("id,text\n1,a\n2,b\n3,cde\n4,f\n5,g")
    nights.run()
    path.write_text("id,text\n1,a\n2,b\n3,cde\n4,f\n5,gh")
    assert nights.run().increment.rows == 1
    assert nights.table().sort_by("id").column("text").to_pylist()[-2:] == ["f", "gh"]
    assert _ids_by_run(nights) == [2, 2, 1]
    nights.check()


def test_what_comes_while_a_run_works_is_the_next_ones(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = nights.folder / "rows/a.csv"
    path.write_text("id,text\n1,a\n")
    work = nights.work

    def slow(job: Job, options: RunOptions, *_: Any) -> Summary:
        with path.open("a") as file:
            file.write("2,b\n")
        return work(job, options)

    with monkeypatch.context() as patch:
        patch.setattr(performing, "run", slow)
        nights.run()
    assert nights.ids() == [1]
    nights.run()
    assert nights.ids() == [1, 2]


def test_folders_of_hive_and_casts_hold_for_every_run(nights: Nights) -> None:
    nights.changes = {
        "input": {"path": str(nights.folder / "rows"), "cast": {"id": "string"}},
    }
    for number, lang in enumerate(("de", "en")):
        (nights.folder / f"rows/lang={lang}").mkdir()
        nights.write(f"lang={lang}/a", number, number + 1)
        nights.run()
    rows = nights.table().select(["id", "lang"]).to_pylist()
    assert sorted(map(str, rows)) == ["{'id': '0', 'lang': 'de'}", "{'id': '1', 'lang': 'en'}"]


def test_a_changed_file_takes_the_place_of_what_it_was(nights: Nights) -> None:
    nights.write("a", 0, 200)
    nights.write("b", 200, 300)
    nights.run()
    nights.write("a", 1000, 1100)
    done = nights.run()

    assert [Path(p).name for p in done.increment.changed] == ["a.parquet"]
    assert nights.ids() == [*range(200, 300), *range(1000, 1100)]
    nights.check()


def test_a_run_all_of_whose_files_changed_is_gone(nights: Nights) -> None:
    nights.write("a", 0, 200)
    nights.run()
    nights.write("a", 1000, 1100)
    nights.run()
    assert nights.ids() == list(range(1000, 1100))
    assert len(GrowingDataset(nights.out).published()) == 1


def test_what_was_made_of_a_file_that_is_gone_stays_and_it_is_said(nights: Nights) -> None:
    nights.write("a", 0, 200)
    nights.write("b", 200, 300)
    nights.run()
    (nights.folder / "rows/a.parquet").unlink()
    assert [Path(p).name for p in nights.run().increment.gone] == ["a.parquet"]
    assert nights.ids() == list(range(300))


def test_full_does_all_that_is_there_and_drops_all_that_was(nights: Nights) -> None:
    nights.write("a", 0, 200)
    nights.write("b", 200, 300)
    nights.run()
    (nights.folder / "rows/a.parquet").unlink()
    assert nights.run(full=True).increment.rows == 100
    assert nights.ids() == list(range(200, 300))
    nights.check()


def test_until_a_run_has_ended_readers_see_what_was_there(nights: Nights) -> None:
    nights.write("a", 0, 300)
    nights.run()
    nights.write("a", 1000, 1400)
    nights.units = 1
    with pytest.raises(PowerCut):
        nights.run()
    assert nights.ids() == list(range(300))


def test_a_run_that_was_broken_off_is_gone_on_with_by_the_next(nights: Nights) -> None:
    nights.write("a", 0, 300, rows_in_group=300)
    nights.units = 1
    with pytest.raises(PowerCut):
        nights.run()
    nights.write("b", 300, 400)
    nights.units = None
    done = nights.run()

    assert (done.run, done.increment.rows) == ("2026-11-25T02-00-00Z", 400)
    assert nights.ids() == list(range(400))
    answers = nights.table().column("completion").to_pylist()
    assert sum(a.startswith("answer of run 1") for a in answers) == 128
    nights.check()


@pytest.mark.parametrize("step", ["drop_rows", "_move"])
def test_a_power_cut_while_rows_are_replaced_doubles_none(
    nights: Nights, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights.write("a", 0, 200)
    nights.write("b", 200, 300)
    nights.run()
    nights.write("a", 1000, 1100)
    with monkeypatch.context() as patch:
        where = "pipeline.output.growing.growing." + ("GrowingDataset." if step == "_move" else "")
        patch.setattr(where + step, lambda *_: _cut())
        with pytest.raises(PowerCut):
            nights.run()
    seen = nights.ids()
    assert len(seen) == len(set(seen))

    assert nights.run().run is None  # what was missing is published, nothing is computed
    assert nights.ids() == [*range(200, 300), *range(1000, 1100)]
    nights.check()


def _cut() -> None:
    raise PowerCut


@pytest.mark.parametrize("nights", ["object store"], indirect=True)
@pytest.mark.parametrize("copies", [0, 1, 4, 8])
def test_an_object_store_on_which_a_run_was_half_moved(
    nights: Nights, copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights.write("a", 0, 300)
    left = [copies]
    copy = nights.fs.cp_file

    def copy_some(source: str, target: str) -> None:
        if "/run=" in target:
            if not left[0]:
                raise PowerCut
            left[0] -= 1
        copy(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(type(nights.fs), "cp_file", lambda self, *a: copy_some(*a))
        with pytest.raises(PowerCut):
            nights.run()
    if copies:
        seen = nights.ids()
        assert len(seen) == len(set(seen))
    nights.run()
    assert nights.ids() == list(range(300))
    nights.check()


def test_another_prompt_is_refused_until_all_is_done_anew(nights: Nights) -> None:
    nights.write("a", 0, 10)
    nights.run()
    nights.write("b", 10, 20)
    nights.changes = {"prompt": "Say more of {text}"}
    with pytest.raises(UsageError, match="prompt changed"):
        nights.run()
    nights.run(full=True)
    assert nights.ids() == list(range(20))


def test_other_columns_are_refused_by_name(nights: Nights) -> None:
    nights.write("a", 0, 10)
    nights.run()
    (nights.folder / "rows/a.parquet").unlink()
    pq.write_table(pa.table({"id": ["x"], "text": ["y"]}), nights.folder / "rows/b.parquet")
    with pytest.raises(UsageError, match=r"id \(int64 → string\)"):
        nights.run()


def test_a_folder_with_other_files_is_refused(nights: Nights) -> None:
    nights.write("a", 0, 10)
    nights.fs.makedirs(nights.root, exist_ok=True)
    nights.fs.pipe_file(f"{nights.root}/precious.parquet", b"")
    with pytest.raises(UsageError, match=r"precious\.parquet"):
        nights.run()


def test_the_history_lies_beside_the_runs(nights: Nights) -> None:
    nights.write("a", 0, 10)
    nights.run()
    nights.write("b", 10, 30)
    nights.run()
    page = nights.fs.cat_file(f"{nights.root}/_history/history.md").decode()
    assert "| 2026-11-26T02-00-00Z | 20 | 0 |" in page
