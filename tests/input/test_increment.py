"""What a schedule's next run has to do, of files that are new, longer, changed or gone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.input.changes.content import with_contents
from pipeline.input.changes.increment import Covered, Increment, increment
from pipeline.input.formats.base import Mark
from pipeline.input.formats.protocol import mark_of, rows_still_there
from pipeline.input.shard import Shard
from pipeline.input.shards import discover
from pipeline.job.job import Input


def _jsonl(path: Path, *texts: str) -> None:
    path.write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))


def _parquet(path: Path, *groups: list[str]) -> None:
    with pq.ParquetWriter(path, pa.schema([("text", pa.string())])) as file:
        for texts in groups:
            file.write_table(pa.table({"text": texts}))


def _shards(folder: Path) -> tuple[Shard, ...]:
    return discover(Input(path=str(folder))).shards


def _covered(shards: tuple[Shard, ...]) -> list[Covered]:
    return [Covered.of(shard, mark_of(shard)) for shard in with_contents(shards)]


def _next(folder: Path, covered: list[Covered]) -> Increment:
    return increment(_shards(folder), covered)


Write = Callable[[Path, list[str], list[str]], None]
both = pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.jsonl", lambda path, first, more: _jsonl(path, *first, *more)),
        ("a.parquet", lambda path, first, more: _parquet(path, *[g for g in (first, more) if g])),
    ],
)


@both
class TestOneFile:
    def test_a_file_that_was_done_is_not_done_again(
        self, tmp_path: Path, name: str, write: Write
    ) -> None:
        write(tmp_path / name, ["a", "b"], [])
        assert _next(tmp_path, _covered(_shards(tmp_path))).shards == ()

    def test_of_a_file_that_grew_only_the_new_rows_are_done(
        self, tmp_path: Path, name: str, write: Write
    ) -> None:
        write(tmp_path / name, ["a", "b"], [])
        covered = _covered(_shards(tmp_path))
        write(tmp_path / name, ["a", "b"], ["c"])
        found = _next(tmp_path, covered)

        assert [(s.first, s.rows) for s in found.shards] == [(2, 3)]
        assert len(found.grown) == 1
        assert not found.changed

    def test_a_file_that_grew_and_changed_at_its_beginning_is_done_again(
        self, tmp_path: Path, name: str, write: Write
    ) -> None:
        write(tmp_path / name, ["a", "b"], [])
        covered = _covered(_shards(tmp_path))
        write(tmp_path / name, ["a", "x"], ["c"])
        found = _next(tmp_path, covered)

        assert [s.first for s in found.shards] == [0]
        assert len(found.changed) == 1

    def test_a_file_that_was_only_touched_is_left_alone(
        self, tmp_path: Path, name: str, write: Write
    ) -> None:
        write(tmp_path / name, ["a", "b"], [])
        covered = [replace(one, version="of yesterday") for one in _covered(_shards(tmp_path))]
        assert _next(tmp_path, covered).shards == ()


def test_a_new_file_is_done(tmp_path: Path) -> None:
    _jsonl(tmp_path / "a.jsonl", "a")
    covered = _covered(_shards(tmp_path))
    _jsonl(tmp_path / "b.jsonl", "b")
    assert [Path(p).name for p in _next(tmp_path, covered).new] == ["b.jsonl"]


def test_a_file_that_is_gone_is_told_of(tmp_path: Path) -> None:
    _jsonl(tmp_path / "a.jsonl", "a")
    _jsonl(tmp_path / "b.jsonl", "b")
    covered = _covered(_shards(tmp_path))
    (tmp_path / "b.jsonl").unlink()
    found = _next(tmp_path, covered)

    assert [Path(p).name for p in found.gone] == ["b.jsonl"]
    assert found.shards == ()
    assert "b.jsonl gone: what was made of them stays" in found.lines()[0]


def test_a_file_that_was_moved_is_not_done_again(tmp_path: Path) -> None:
    (tmp_path / "in/old").mkdir(parents=True)
    _jsonl(tmp_path / "in/a.jsonl", "a")
    _jsonl(tmp_path / "in/b.jsonl", "b")
    covered = _covered(_shards(tmp_path / "in"))
    (tmp_path / "in/a.jsonl").rename(tmp_path / "in/old/a.jsonl")
    found = _next(tmp_path / "in", covered)
    assert (found.shards, found.gone) == ((), ())


@pytest.mark.parametrize(
    ("name", "before", "after", "first", "went_on"),
    [
        ("a.jsonl", '{"t": 1}\n{"t": 2}', '{"t": 1}\n{"t": 2}\n{"t": 3}\n', 2, {}),
        ("a.jsonl", '{"t": 1}', '{"t": 1}\n{"t": 2}', 1, {}),
        ("a.csv", "t,u\n1,x\n2,y", "t,u\n1,x\n2,yes\n3,z\n", 1, {"a.csv": 1}),
        ("a.csv", "t,u\n1,x\n2,y", "t,u\n1,x\n2,yes", 1, {"a.csv": 1}),
        ("a.csv", 't,u\n1,x\n2,"y\nz"', 't,u\n1,x\n2,"y\nz"\n3,w\n', 2, {}),
        ("a.csv", "t,u\r1,x\r2,y", "t,u\r1,x\r2,yes\r3,z\r", 1, {"a.csv": 1}),
        ("a.tsv", "t\tu\tv\n1\t2\t3\n\t\t", "t\tu\tv\n1\t2\t3\n\t\tx\n4\t5\t6\n", 1, {"a.tsv": 1}),
        ("a.csv", "t\n1\n  ", "t\n1\n  x\n", 1, {"a.csv": 1}),
        ("a.csv", "t\n1\n  ", "t\n1\n  \nx\n", 2, {}),
        ("a.jsonl", '{"t": 1}\n \t', '{"t": 1}\n \t{"t": 2}\n', 1, {}),
        (
            "a.jsonl",
            '{"t": 1}\n{"t": 2}',
            '{"t": 1}\n{"t": 2}\r{"t": 3}\n{"t": 4}',
            1,
            {"a.jsonl": 1},
        ),
        ("a.jsonl", '{"t": 1}\n{"t": 2}', '{"t": 1}\n{"t": 2}\r\n{"t": 3}', 2, {}),
    ],
)
def test_of_a_last_line_without_an_end_only_that_line_is_done_again_if_it_went_on(
    tmp_path: Path, name: str, before: str, after: str, first: int, went_on: dict[str, int]
) -> None:
    path = tmp_path / name
    path.write_text(before, newline="")
    covered = _covered(_shards(tmp_path))
    path.write_text(after, newline="")
    found = _next(tmp_path, covered)

    assert [shard.first for shard in found.shards] == [first]
    assert {Path(p).name: row for p, row in found.went_on.items()} == went_on
    assert not found.changed


def test_a_last_line_that_only_got_its_end_is_not_done_again(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}')
    covered = _covered(_shards(tmp_path))
    path.write_text('{"text": "a"}\n')
    found = _next(tmp_path, covered)
    assert (found.shards, found.went_on) == ((), {})


def test_a_file_of_no_rows_whose_only_line_went_on_is_done_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,text\n")
    [shard] = _shards(tmp_path)
    mark = Mark(hashlib.sha256(b"").hexdigest(), 0, hashlib.sha256(b"id,te").hexdigest(), 5)
    path.write_text("id,texts\n1,x\n")
    assert rows_still_there(shard, 0, mark) is None


def test_a_file_that_grew_and_is_read_otherwise_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('a;b,c\n1;"2",3\n')
    for now in ({"quotes": "none"}, {"delimiter": ";"}):
        path.write_text('a;b,c\n1;"2",3\n')
        then = discover(Input.model_validate({"path": str(path), "delimiter": ","})).shards
        covered = _covered(then)
        path.write_text('a;b,c\n1;"2",3\n4;5,6\n')
        source = Input.model_validate({"path": str(path), "delimiter": ",", **now})
        found = increment(discover(source).shards, covered)
        assert ([s.first for s in found.shards], len(found.changed)) == ([0], 1)


def test_only_what_was_added_is_done_where_it_has_the_first_quotes_and_they_are_letters(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.csv"
    source = Input(path=str(path), quotes="none")
    path.write_text("a,b\n1,2\n")
    covered = _covered(discover(source).shards)
    path.write_text('a,b\n1,2\n3,"x"\n')

    found = increment(discover(source).shards, covered)

    assert ([s.first for s in found.shards], found.changed) == ([1], ())


def test_other_bytes_with_the_old_time_are_done_again(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    _parquet(path, ["a", "b"])
    covered = _covered(_shards(tmp_path))
    stat = path.stat()
    _parquet(path, ["a", "c"])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert len(_next(tmp_path, covered).changed) == 1


def test_what_is_not_whole_is_neither_gone_nor_done(tmp_path: Path) -> None:
    _jsonl(tmp_path / "a.jsonl", "a")
    _jsonl(tmp_path / "b.jsonl", "b")
    covered = _covered(_shards(tmp_path))
    with (tmp_path / "b.jsonl").open("a") as file:
        file.write('{"text": "c')
    files = discover(Input(path=str(tmp_path)))
    found = increment(files.shards, covered, left=files.left)

    assert (found.shards, found.gone) == ((), ())
    assert ["b.jsonl" in line for line in found.left] == [True]


def test_full_does_all_again(tmp_path: Path) -> None:
    _jsonl(tmp_path / "a.jsonl", "a")
    shards = _shards(tmp_path)
    assert increment(shards, _covered(shards), full=True).shards == shards
