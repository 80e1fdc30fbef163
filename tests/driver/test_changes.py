"""Input that changed since an output was begun: what is kept is exactly what is as it was."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import UsageError
from pipeline.driver.plan.plan import Plan, check_input, make_plan
from pipeline.errors import HalfWritten
from pipeline.output.dataset import Dataset
from pipeline.output.verify.dataset import verify
from pipeline.storage.base import open_storage
from tests.support.datasets import begin, commit_unit, finish, ids_in, job_in, rows_of, write_input

pytestmark = pytest.mark.usefixtures("large_units")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files of 150, 130 and 140 rows, all done."""
    write_input(tmp_path / "rows", 150, 130, 140)
    finish(job_in(tmp_path))
    return tmp_path


def plan_of(folder: Path, rows: int | None = None) -> Plan:
    return make_plan(check_input(job_in(folder), rows), fetch=False)


def spans(plan: Plan) -> list[tuple[int, int, int]]:
    return [(u.shard, u.start, u.stop) for u in plan.missing]


def content(folder: Path) -> dict[bytes, str]:
    return {path.read_bytes(): path.name for path in sorted((folder / "out").glob("*.parquet"))}


def check_whole(folder: Path, ids: list[int]) -> None:
    assert ids_in(folder / "out") == ids
    verdict = verify(open_storage(str(folder / "out")))
    assert verdict.ok, verdict.faults
    assert verdict.compared_rows == len(ids)


def test_an_input_that_is_as_it_was_has_no_changes(folder: Path) -> None:
    plan = plan_of(folder)

    assert not plan.changes
    assert plan.changes.lines() == []
    assert (plan.missing, plan.outgrown, plan.moved) == ((), (), ())


class TestAChangedFile:
    def test_exactly_its_units_are_done_again(self, folder: Path) -> None:
        pq.write_table(rows_of(1000, 1200), folder / "rows/b.parquet")
        plan = plan_of(folder)

        assert spans(plan) == [(1, 0, 128), (1, 128, 200)]
        assert plan.reused.rows == 290
        [line] = plan.changes.lines()
        assert "b.parquet (130 → 200 rows; its 200 rows)" in line

    def test_the_dataset_is_right_after_the_run(self, folder: Path) -> None:
        before = content(folder)
        pq.write_table(rows_of(1000, 1200), folder / "rows/b.parquet")
        finish(job_in(folder))

        check_whole(folder, [*range(150), *range(1000, 1200), *range(280, 420)])
        assert len(before.keys() & content(folder).keys()) == 4

    def test_a_smaller_one_leaves_no_row_of_the_larger(self, folder: Path) -> None:
        pq.write_table(rows_of(1000, 1001), folder / "rows/b.parquet")
        finish(job_in(folder))

        check_whole(folder, [*range(150), 1000, *range(280, 420)])

    def test_one_that_was_only_touched_or_copied_over_itself_is_not_done_again(
        self, folder: Path
    ) -> None:
        os.utime(folder / "rows/a.parquet", (1, 1))
        shutil.copy(folder / "rows/b.parquet", folder / "copy")
        shutil.move(folder / "copy", folder / "rows/b.parquet")
        before = content(folder)
        plan = plan_of(folder)
        assert (spans(plan), plan.changes.lines()) == ([], [])

        finish(job_in(folder))
        assert content(folder) == before
        check_whole(folder, list(range(420)))

    def test_one_that_was_touched_is_hashed_once_and_then_known(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        os.utime(folder / "rows/b.parquet", (1, 1))
        finish(job_in(folder))
        monkeypatch.setattr(
            "pipeline.input.changes.compare.content_of", lambda shard: "never asked"
        )
        assert spans(plan_of(folder)) == []

    def test_a_run_that_was_killed_goes_on_after_a_touch(self, tmp_path: Path) -> None:
        write_input(tmp_path / "rows", 150, 130)
        plan, dataset = begin(job_in(tmp_path))
        commit_unit(plan, dataset, plan.units[0])
        os.utime(tmp_path / "rows/a.parquet", (1, 1))
        assert spans(plan_of(tmp_path)) == [(0, 128, 150), (1, 0, 128), (1, 128, 130)]

        finish(job_in(tmp_path))
        check_whole(tmp_path, list(range(280)))

    def test_other_bytes_under_the_old_time_and_size_are_done_again(self, folder: Path) -> None:
        path = folder / "rows/b.parquet"
        stat = path.stat()
        content = path.read_bytes()
        assert content.count(b"text 150") == 3  # the least of all, and of a page
        path.write_bytes(content.replace(b"text 150", b"text 15 "))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert spans(plan_of(folder)) == [(1, 0, 128), (1, 128, 130)]

        finish(job_in(folder))
        assert spans(plan_of(folder)) == []
        check_whole(folder, list(range(420)))

    def test_one_whose_content_nobody_knows_is_done_again_when_it_was_written_to(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pipeline.driver.run.with_contents", lambda shards: shards)
        write_input(tmp_path / "rows", 150)
        finish(job_in(tmp_path))
        os.utime(tmp_path / "rows/a.parquet", (1, 1))
        assert plan_of(tmp_path).changes.changed[0].what == "written since"

    def test_other_row_groups_are_noticed(self, folder: Path) -> None:
        path = folder / "rows/b.parquet"
        stat = path.stat()
        pq.write_table(rows_of(150, 280), path, row_group_size=50)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

        assert plan_of(folder).changes.changed[0].path.endswith("b.parquet")

    def test_units_that_were_cut_are_forgotten_too(self, tmp_path: Path) -> None:
        write_input(tmp_path / "rows", 150)
        plan, dataset = begin(job_in(tmp_path))
        dataset.cut(plan.units[0], 50)
        pq.write_table(rows_of(0, 140), tmp_path / "rows/a.parquet")
        finish(job_in(tmp_path))

        assert dataset.state().cuts == {}
        check_whole(tmp_path, list(range(140)))


class TestFilesThatCameAndWent:
    def test_a_new_one_at_the_end_is_done(self, folder: Path) -> None:
        pq.write_table(rows_of(420, 430), folder / "rows/d.parquet")
        plan = plan_of(folder)
        assert spans(plan) == [(3, 0, 10)]
        assert "new: " in plan.changes.lines()[0]

        finish(job_in(folder))
        check_whole(folder, list(range(430)))

    def test_one_in_between_moves_the_files_behind_it_and_redoes_nothing(
        self, folder: Path
    ) -> None:
        before = content(folder)
        pq.write_table(rows_of(900, 910), folder / "rows/aa.parquet")
        plan = plan_of(folder)
        assert spans(plan) == [(1, 0, 10)]
        assert len(plan.moved) == 4

        finish(job_in(folder))
        check_whole(folder, [*range(150), *range(900, 910), *range(150, 420)])
        assert before.keys() < content(folder).keys()

    def test_the_rows_of_one_that_is_gone_are_dropped(self, folder: Path) -> None:
        (folder / "rows/a.parquet").unlink()
        plan = plan_of(folder)
        assert spans(plan) == []
        assert "gone, and so are its rows: " in plan.changes.lines()[0]

        finish(job_in(folder))
        check_whole(folder, list(range(150, 420)))

    def test_one_that_is_not_whole_now_is_not_gone(self, folder: Path) -> None:
        whole = (folder / "rows/b.parquet").read_bytes()
        (folder / "rows/b.parquet").write_bytes(whole[:-9])
        with pytest.raises(HalfWritten, match=r"not whole now: .*b\.parquet"):
            plan_of(folder)

        (folder / "rows/b.parquet").write_bytes(whole)
        assert spans(plan_of(folder)) == []
        check_whole(folder, list(range(420)))

    def test_all_at_once(self, folder: Path) -> None:
        (folder / "rows/a.parquet").unlink()
        pq.write_table(rows_of(500, 520), folder / "rows/bb.parquet")
        pq.write_table(rows_of(600, 620), folder / "rows/c.parquet")
        pq.write_table(rows_of(700, 720), folder / "rows/0.parquet")
        finish(job_in(folder))

        ids = [*range(700, 720), *range(150, 280), *range(500, 520), *range(600, 620)]
        check_whole(folder, ids)

    def test_moved_files_keep_their_results(self, folder: Path) -> None:
        shutil.copytree(folder / "rows", folder / "elsewhere")  # times of change are kept
        shutil.rmtree(folder / "rows")
        made = job_in(folder, input={"path": str(folder / "elsewhere")})
        plan = make_plan(check_input(made), fetch=False)

        assert not plan.changes
        assert plan.missing == ()

    def test_the_working_folder_does_not_matter(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_input(tmp_path / "rows", 10)
        monkeypatch.chdir(tmp_path)
        finish(job_in(tmp_path, input={"path": "rows"}))
        monkeypatch.chdir(tmp_path.parent)
        plan = plan_of(tmp_path)

        assert not plan.changes
        assert plan.missing == ()

    def test_a_larger_input_leaves_the_units_that_are_there(self, tmp_path: Path) -> None:
        """Units of a large input are larger: those of files that are done stay as they are."""
        write_input(tmp_path / "rows", 150)
        finish(job_in(tmp_path))
        pq.write_table(rows_of(1000, 41_000), tmp_path / "rows/b.parquet")
        plan = plan_of(tmp_path)

        assert plan.reused.rows == 150
        assert plan.missing[0].rows > 128


class TestWhatCannotBeMapped:
    def test_another_input_is_refused(self, folder: Path) -> None:
        write_input(folder / "others", 150)
        (folder / "others/a.parquet").rename(folder / "others/x.parquet")
        made = job_in(folder, input={"path": str(folder / "others")})

        with pytest.raises(UsageError, match="output of another input"):
            make_plan(check_input(made), fetch=False)

    def test_other_types_are_refused_where_rows_are_kept(self, tmp_path: Path) -> None:
        (tmp_path / "rows").mkdir()
        (tmp_path / "rows/a.jsonl").write_text('{"id": 1, "text": "a"}\n')
        finish(job_in(tmp_path))
        (tmp_path / "rows/b.jsonl").write_text('{"id": 1.5, "text": "b"}\n')

        with pytest.raises(UsageError, match=r"id \(int64 → double\)"):
            plan_of(tmp_path)

    def test_other_types_are_fine_where_nothing_is_kept(self, tmp_path: Path) -> None:
        write_input(tmp_path / "rows", 20)
        finish(job_in(tmp_path))
        table = rows_of(0, 20)
        table = table.set_column(0, "id", pa.array([float(i) for i in range(20)]))
        pq.write_table(table, tmp_path / "rows/a.parquet")
        finish(job_in(tmp_path))

        check_whole(tmp_path, list(range(20)))

    def test_fewer_rows_than_there_are_of_a_kept_file_are_still_refused(self, folder: Path) -> None:
        pq.write_table(rows_of(420, 430), folder / "rows/d.parquet")

        with pytest.raises(UsageError, match="more than the first 100 rows"):
            plan_of(folder, 100)


class _Crash(Exception):
    pass


class _Crashing:
    """A storage whose every change counts, and whose ``at``-th crashes."""

    CHANGES = ("create", "replace", "write", "publish", "delete")

    def __init__(self, inner, at: int) -> None:
        self._inner, self._at, self.changes = inner, at, 0

    def __getattr__(self, name: str):
        method = getattr(self._inner, name)
        if name not in self.CHANGES:
            return method

        def call(*arguments):
            if self.changes >= self._at:
                raise _Crash
            self.changes += 1
            return method(*arguments)

        return call


def test_a_crash_at_any_change_never_shows_a_row_twice_and_is_gone_on_from(
    tmp_path: Path,
) -> None:
    """A file came in between, one went, one changed; the crash comes at any step of taking the
    folder over for that."""
    from pipeline.driver.run import claim

    write_input(tmp_path / "rows", 40, 30, 20, 10)
    finish(job_in(tmp_path))
    shutil.copytree(tmp_path / "out", tmp_path / "begun")
    pq.write_table(rows_of(500, 510), tmp_path / "rows/aa.parquet")
    pq.write_table(rows_of(600, 620), tmp_path / "rows/c.parquet")
    pq.write_table(rows_of(700, 705), tmp_path / "rows/0.parquet")
    (tmp_path / "rows/b.parquet").unlink()
    new = [*range(500, 510), *range(600, 620)]
    wanted = [*range(700, 705), *range(40), *new, *range(90, 100)]
    at = 0
    while True:
        shutil.rmtree(tmp_path / "out")
        shutil.copytree(tmp_path / "begun", tmp_path / "out")
        storage = _Crashing(open_storage(str(tmp_path / "out")), at)
        plan = plan_of(tmp_path)
        with contextlib.suppress(_Crash):
            claim(plan, storage, fresh=False)
        seen = ids_in(tmp_path / "out")
        assert len(set(seen)) == len(seen)
        if seen != list(range(100)):
            assert not (tmp_path / "out/_SUCCESS").exists()
        finish(job_in(tmp_path))
        check_whole(tmp_path, wanted)
        if storage.changes < at:
            break
        at += 1
    assert at > 15


def test_starting_over_is_ended_by_whoever_comes_next(tmp_path: Path) -> None:
    write_input(tmp_path / "rows", 300)
    made = job_in(tmp_path)
    finish(made)
    shutil.copytree(tmp_path / "out", tmp_path / "begun")
    at = 0
    while True:
        shutil.rmtree(tmp_path / "out")
        shutil.copytree(tmp_path / "begun", tmp_path / "out")
        storage = _Crashing(open_storage(str(tmp_path / "out")), at)
        with contextlib.suppress(_Crash):
            Dataset(storage).clear()
        finish(made)
        check_whole(tmp_path, list(range(300)))
        if storage.changes < at:
            break
        at += 1
    assert at > 5


def test_a_unit_of_a_changed_file_is_committed_by_its_new_name(folder: Path) -> None:
    pq.write_table(rows_of(1000, 1010), folder / "rows/b.parquet")
    plan, dataset = begin(job_in(folder))
    commit_unit(plan, dataset, plan.missing[0])

    assert ids_in(folder / "out") == [*range(150), *range(1000, 1010), *range(280, 420)]
