"""Files that are packed, in UTF-16, one JSON array, or in one of Arrow's other formats."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest

from pipeline import job_from
from pipeline.errors import HalfWritten, UsageError
from pipeline.input.changes.compare import compare
from pipeline.input.formats import unpack
from pipeline.input.reader import UnitReader
from pipeline.input.shards import discover
from pipeline.input.units import Unit
from pipeline.job.job import Input
from pipeline.output.dataset import Dataset
from pipeline.output.verify.dataset import verify
from pipeline.storage.base import open_storage
from tests.chaos.in_process import run_here
from tests.support.samples import write_model

TABLE = pa.table({"id": range(40), "text": [f"row {n}, ä" for n in range(40)]})
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in TABLE.to_pylist())
HALVES = LINES[:99].encode(), LINES[99:].encode()
CELLS = "id,text\n" + "".join(f'{row["id"]},"{row["text"]}"\n' for row in TABLE.to_pylist())


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RACKMILL_HOME", str(tmp_path / "home"))


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, "zstd", asbytes=True))


def arrow_stream(path: Path) -> None:
    with pa.ipc.new_stream(path, TABLE.schema) as writer:
        writer.write_table(TABLE)


def write(content: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content)


FILES: dict[str, Callable[[Path], Any]] = {
    "rows.jsonl.gz": write(gzip.compress(LINES.encode())),
    "two members.jsonl.gz": write(b"".join(map(gzip.compress, HALVES))),
    "filled up.jsonl.gz": write(gzip.compress(LINES.encode()) + bytes(100)),
    "more behind.csv.bz2": write(bz2.compress(CELLS.encode()) + b"more"),
    "rows.csv.bz2": write(bz2.compress(CELLS.encode())),
    "rows.ndjson.xz": write(lzma.compress(LINES.encode())),
    "rows.csv.zst": write(zstd(CELLS.encode())),
    "rows.csv": write(CELLS.encode("utf-16")),
    "rows.jsonl": write(LINES.encode("utf-16")),
    "big endian.csv": write(b"\xfe\xff" + CELLS.encode("utf-16-be")),
    "rows.json": write(json.dumps(TABLE.to_pylist(), indent=2, ensure_ascii=False).encode()),
    "rows.json.gz": write(gzip.compress(json.dumps(TABLE.to_pylist()).encode())),
    "rows.arrow": arrow_stream,
    "rows.feather": lambda path: feather.write_feather(TABLE, path),
    "rows.orc": lambda path: orc.write_table(TABLE, path),
}


def run(folder: Path, name: str) -> str:
    """The output of a job over the file."""
    write_model(folder / "model")
    output = str(folder / "out")
    run_here(
        job_from(
            {
                "name": "unpacked",
                "model": str(folder / "model"),
                "input": {"path": str(folder / name)},
                "prompt": "{text}",
                "sampling": {"max_tokens": 2},
                "output": {"path": output},
                "engine": {"kind": "simulated"},
            }
        )
    )
    return output


def rows_of(source: Input) -> tuple[pa.Table, dict[int, str]]:
    """All rows, and what is wrong with single ones."""
    files = discover(source)
    reader = UnitReader(files.shards, files.schema)
    found = [reader.read(Unit("u", s.index, 0, s.rows)) for s in files.shards]
    reader.close()
    return pa.concat_tables([one.table for one in found]), found[0].invalid


@pytest.mark.parametrize("name", FILES)
def test_its_rows_are_read_and_verify_reads_them_too(name: str, tmp_path: Path) -> None:
    FILES[name](tmp_path / name)
    output = run(tmp_path, name)
    rows = Dataset(open_storage(output)).first_rows(99)

    assert [{"id": row["id"], "text": row["text"]} for row in rows] == TABLE.to_pylist()
    assert verify(open_storage(output)).faults == []


@pytest.mark.parametrize(
    "name",
    ["rows.jsonl.gz", "rows.json", "rows.arrow", "filled up.jsonl.gz", "more behind.csv.bz2"],
)
def test_verify_sees_what_the_writing_out_got_wrong(name: str, tmp_path: Path) -> None:
    FILES[name](tmp_path / name)
    found = discover(Input(path=str(tmp_path / name)))
    made = Path(found.shards[0].readable)
    if name == "rows.arrow":
        pq.write_table(TABLE.set_column(0, "id", pa.array([7] * 40)), made)
    else:
        made.write_text(made.read_text().replace("row 3,", "row 4,"))
    output = run(tmp_path, name)

    assert verify(open_storage(output)).faults


def test_a_byte_that_the_encoding_lacks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("a,b\n1,é\n".encode())

    with pytest.raises(UsageError, match="byte 0xc3 at offset 6 is not ascii"):
        discover(Input(path=str(path), encoding="ascii"))


def test_values_of_an_array_come_out_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"v": 9007199254740993,\n "w": 0.10}, {"v": "a\\nb"}]')
    shard = discover(Input(path=str(tmp_path / "a.json"))).shards[0]

    lines = Path(shard.readable).read_text().splitlines()
    assert lines == ['{"v": 9007199254740993,\t "w": 0.10}', '{"v": "a\\nb"}']


DRIFTING = (
    '{"a": 9007199254740993, "b": "x", "d": [1]}\n'
    '{"a": 1.5, "b": "é", "d": [0.25, 9007199254740993]}\n{"a": 1.25, "c": "é"}\n'
)
AS_ARRAY = "[" + ",".join(DRIFTING.splitlines()) + "]"


@pytest.mark.parametrize(
    ("name", "content", "encoding"),
    [
        ("a.jsonl.gz", gzip.compress(DRIFTING.encode()), None),
        ("a.jsonl.bz2", bz2.compress(DRIFTING.encode()), None),
        ("a.jsonl.xz", lzma.compress(DRIFTING.encode()), None),
        ("a.jsonl.zst", zstd(DRIFTING.encode()), None),
        ("a.jsonl", DRIFTING.encode("utf-16"), None),
        ("a.jsonl", DRIFTING.encode("cp1252"), "cp1252"),
        ("a.json", AS_ARRAY.encode(), None),
        ("a.json.gz", gzip.compress(AS_ARRAY.encode("utf-16")), None),
    ],
    ids=["gzip", "bz2", "xz", "zstd", "utf-16", "cp1252", "array", "packed array in utf-16"],
)
def test_types_that_widen_late_are_those_of_the_plain_file(
    tmp_path: Path, name: str, content: bytes, encoding: str | None
) -> None:
    """Integers that a double rounds beside fractions are looked at a second time."""
    plain, packed = tmp_path / "plain.jsonl", tmp_path / name
    plain.write_text(DRIFTING)
    packed.write_bytes(content)

    assert rows_of(Input(path=str(packed), encoding=encoding)) == rows_of(Input(path=str(plain)))


def test_types_are_those_of_packed_and_plain_files_together(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"a": 9007199254740993}\n'))
    (tmp_path / "b.jsonl").write_bytes(b'{"a": 1.5}\n')
    (tmp_path / "c.json.xz").write_bytes(lzma.compress(b'[{"a": 0.125}]'))

    table, invalid = rows_of(Input(path=str(tmp_path)))
    assert [str(value) for value in table.column("a").to_pylist()] == [
        *("9007199254740993.000", "1.500", "0.125")
    ]
    assert invalid == {}


ODD = [
    *('{"text": "a, b"}', '{"text": NaN}', '{"text": "\\ud83d"}', '{"text": "], [{\\"\\\\"}', "7"),
    *(
        "[" * 100_000 + "]" * 100_000,
        f'{{"text": {"9" * 5000}}}',
        '{"text": 1 "b"}',
        '{"text": "z"}',
    ),
]


def test_an_entry_that_is_no_row_costs_an_array_what_a_line_costs_json_lines(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.json").write_text("[" + ",\n".join(ODD) + "]")
    (tmp_path / "a.jsonl").write_text("\n".join(ODD))
    lines, array = (rows_of(Input(path=str(tmp_path / f"a.{end}"))) for end in ("jsonl", "json"))
    output = run(tmp_path, "a.json")
    verdict = verify(open_storage(output))

    assert array == lines
    assert array[0].column("text").to_pylist()[::8] == ["a, b", "z"]
    assert (verdict.faults, verdict.notes, verdict.compared_rows) == ([], [], len(ODD))


@pytest.mark.parametrize("text", ['[{"text": "x"y"}]', '[{"text": "x"}] and more', '[{"a": 1}}]'])
def test_an_array_that_is_none_is_refused_and_not_waited_for(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)

    with pytest.raises(UsageError, match=r"a\.json") as caught:
        discover(Input(path=str(tmp_path / "a.json")))
    assert not isinstance(caught.value, HalfWritten)


def test_a_folder_has_packed_files_too(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n'))
    (tmp_path / "in/b.jsonl").write_bytes(b'{"text": "b"}\n')
    (tmp_path / "in/c.txt.gz").write_bytes(b"no data")

    assert discover(Input(path=str(tmp_path / "in"))).rows == 2


def test_a_file_that_changed_is_written_out_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "a"}\n'))
    one = discover(Input(path=str(path))).shards[0].readable
    path.write_bytes(gzip.compress(b'{"text": "a"}\n{"text": "b"}\n'))
    found = discover(Input(path=str(path)))

    assert found.rows == 2
    assert found.shards[0].readable != one


def with_the_old_time(path: Path, content: bytes) -> None:
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_other_bytes_with_the_old_size_and_time_are_written_out_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("text\nyes\nno_\n".encode("utf-16"))
    assert rows_of(Input(path=str(path)))[0].column("text").to_pylist() == ["yes", "no_"]
    with_the_old_time(path, "text\nno_\nyes\n".encode("utf-16"))

    assert rows_of(Input(path=str(path)))[0].column("text").to_pylist() == ["no_", "yes"]


def test_rows_are_read_from_what_was_looked_into_whatever_an_output_knows_it_as(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("text\nyes\nno_\n".encode("utf-16"))
    [before] = discover(Input(path=str(path))).shards
    entry = {**before.identity, "at": str(path), "stamp": before.stamp, "content": "other"}
    with_the_old_time(path, "text\nno_\nyes\n".encode("utf-16"))
    [now] = discover(Input(path=str(path))).shards
    [told_apart], _ = compare([now], [entry])

    assert told_apart.version != now.version == before.version
    assert told_apart.readable == now.readable != before.readable


def test_what_changes_while_it_is_written_out_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("text\nyes\n".encode("utf-16"))
    write_out = unpack._write_out

    def slow(*told: Any) -> None:
        with_the_old_time(path, "text\nno_\n".encode("utf-16"))
        write_out(*told)

    monkeypatch.setattr(unpack, "_write_out", slow)
    with pytest.raises(HalfWritten, match="being written"):
        discover(Input(path=str(path)))
    assert list((tmp_path / "home").rglob("unpacked/*")) == []


def test_one_that_is_of_another_size_by_now_is_not_read_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("text\nyes\n".encode("utf-16"))
    [shard] = discover(Input(path=str(path))).shards
    Path(shard.readable).unlink()
    path.write_bytes("text\nyes and no\n".encode("utf-16"))

    with pytest.raises(HalfWritten, match="being written"):
        _ = shard.readable


def test_one_that_two_threads_want_is_written_out_by_each_for_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "row"}\n' * 200_000))
    [shard] = discover(Input(path=str(path))).shards
    made = Path(shard.readable)
    content = made.read_bytes()
    for _ in range(3):
        made.unlink()
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(lambda one: one.readable, [shard] * 4)) == {str(made)}
        assert made.read_bytes() == content


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.csv.bz2", "rows.ndjson.xz", "rows.orc"])
def test_one_that_is_cut_off_is_named(name: str, tmp_path: Path) -> None:
    FILES[name](tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])

    with pytest.raises(UsageError, match=name) as caught:
        discover(Input(path=str(tmp_path / name)))
    assert "cut off or damaged" in "".join(caught.value.hints)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a.zip", "unzip"),
        ("a.tar.gz", "tar"),
        ("a.avro", "as Parquet"),
        ("a.parquet.gz", "unpack it"),
        ("a.xlsx", "CSV"),
    ],
)
def test_what_is_not_read_comes_with_what_works(name: str, advice: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")

    with pytest.raises(UsageError) as caught:
        discover(Input(path=str(tmp_path / name)))
    assert advice in "".join(caught.value.hints)
