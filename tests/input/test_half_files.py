"""Files that are not whole yet: they are left for the next run and named, the others are done."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest

from pipeline.errors import HalfWritten, UsageError
from pipeline.input.formats.base import ScannedFile
from pipeline.input.formats.jsonl import kind as jsonl
from pipeline.input.reader import UnitReader
from pipeline.input.shards import InputFiles, check_whole, discover, moved_since
from pipeline.input.units import Unit
from pipeline.job.job import Input
from pipeline.job.template.field_text import as_text

TABLE = pa.table({"text": [f"row {n}" for n in range(100)], "n": range(100)})
LINES = b"".join(b'{"text": "row %d", "n": %d}\n' % (n, n) for n in range(100))
CELLS = b"text,n\n" + b"".join(b"row %d,%d\n" % (n, n) for n in range(100))


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RACKMILL_HOME", str(tmp_path / "home"))


def _parquet() -> bytes:
    target = io.BytesIO()
    pq.write_table(TABLE, target)
    return target.getvalue()


def _arrow(make: Callable[[io.BytesIO, pa.Schema], pa.RecordBatchFileWriter]) -> bytes:
    target = io.BytesIO()
    with make(target, TABLE.schema) as writer:
        writer.write_table(TABLE)
    return target.getvalue()


def _orc() -> bytes:
    target = io.BytesIO()
    orc.write_table(TABLE, target)
    return target.getvalue()


def _feather() -> bytes:
    target = io.BytesIO()
    feather.write_feather(TABLE, target)
    return target.getvalue()


HALF: dict[str, bytes] = {
    "half.parquet": _parquet()[:-5],
    "empty.parquet": b"",
    "begun.parquet": b"PAR1",
    "cut.jsonl": LINES[:-3],
    "in a text.jsonl": LINES + '{"text": "ä'.encode()[:-1],
    "in a number.jsonl": LINES + b'{"text": "x", "n": 1',
    "after NaN.jsonl": LINES + b'{"n": NaN, "text": "x',
    "in a quote.csv": CELLS + b'"row',
    "in a row.csv": CELLS + b"row",
    "in a header.csv": b"text,n",
    "in a header's name.csv": "text,nä".encode()[:-1],
    "in a quoted name.csv": b'text,"n',
    "in a character.csv": CELLS + "row 1,nä".encode()[:-1],
    "in a row; of others.csv": b"text;n\nrow 1;1\nrow",
    "before it is told by what it is cut.csv": b"text,n;m\nrow",
    "in a long text.csv": CELLS + b'"' + b"Lines, with commas\nin them, and\nmore.\n" * 20,
    "in a longer one.csv": CELLS + b'"' + b"x" * (3 << 20) + b'",1\n"' + b"x" * (2 << 20),
    "in a row.csv.tsv": CELLS.replace(b",", b"\t") + b"row",
    "in a quote.csv.tsv": CELLS.replace(b",", b"\t") + b'1\t"row',
    "in a fraction.jsonl": LINES + b'{"text": "x", "n": 1.',
    "in a sign.jsonl": LINES + b'{"text": "x", "n": -',
    "in an exponent.jsonl": LINES + b'{"text": "x", "n": 1e-',
    "in true after NaN.jsonl": LINES + b'{"n": NaN, "text": tru',
    "in Infinity.jsonl": LINES + b'{"n": -Infin',
    "in a pair after NaN.jsonl": LINES + b'{"n": NaN, "text": "x\\ud8',
    "after a name that is not UTF-8.jsonl": LINES + b'{"te\xffxt": 1, "n": {"',
    "half.jsonl.gz": gzip.compress(LINES)[:-9],
    "empty.jsonl.gz": b"",
    "half.csv.bz2": bz2.compress(CELLS)[:-9],
    "half.jsonl.xz": lzma.compress(LINES)[:-9],
    "half.jsonl.zst": bytes(pa.compress(LINES, "zstd", asbytes=True))[:-9],
    "a whole member, a cut line.jsonl.gz": gzip.compress(LINES[:-3]),
    "array.json": b"[" + LINES[:-1].replace(b"\n", b",")[:-3],
    "after NaN.json": b'[{"n": NaN, "text": "x"}, {"n": 1, "text": "y',
    "half.arrow": _arrow(pa.ipc.new_file)[:-9],
    "stream.arrow": _arrow(pa.ipc.new_stream)[:-99],
    "half.feather": _feather()[:-9],
    "half.orc": _orc()[:-9],
}
WHOLE = {"parquet": ("whole.parquet", _parquet()), "jsonl": ("whole.jsonl", LINES)}
WHOLE["csv"] = ("whole.csv", CELLS)


def _format(name: str) -> str:
    kinds = {".csv": "csv", ".tsv": "csv", ".json": "jsonl"}
    return next((kind for end, kind in kinds.items() if end in name), "parquet")


def _find(path: Path) -> InputFiles:
    return discover(Input(path=str(path)))


@pytest.mark.parametrize("name", HALF)
def test_beside_a_whole_file_it_is_left_and_named(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    whole, content = WHOLE[_format(name)]
    (folder / whole).write_bytes(content)
    (folder / name).write_bytes(HALF[name])
    files = _find(folder)

    assert [Path(s.path).name for s in files.shards] == [whole]
    assert [Path(one.path).name for one in files.left] == [name]
    assert any(name in line and "next run" in line for line in files.waiting)
    with pytest.raises(HalfWritten, match="not whole"):
        check_whole(files)


@pytest.mark.parametrize("name", HALF)
def test_named_by_itself_it_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(HALF[name])
    with pytest.raises(HalfWritten, match=name.replace(".", r"\.")) as caught:
        _find(tmp_path / name)
    assert caught.value.hints


def test_a_folder_of_nothing_else_is_refused(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jsonl").write_bytes(LINES[:-3])
    with pytest.raises(HalfWritten, match=r"0\.jsonl.*2\.jsonl"):
        _find(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        b"not JSON", b'{"a": 1} x', b'{"a": NaN}', b"12", b"[1]", b'{"a": 1}', b"  ",
        b'{"\xff": 1}', b'{"a": "\xff"}', b'{"a": 1}\xff', b"\xff\xfe",
        b"{a: 1}", b'{"a": tru}', b'{"a": NaN} x', b"1e-", b'{"a": "\\x"}',
    ],
)  # fmt: skip
def test_a_last_line_that_is_wrong_otherwise_is_a_row_like_any(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES + line)
    assert _find(tmp_path / "a.jsonl").rows == 100 + bool(line.strip())


WRITTEN = {
    "a.csv": 'id,"na""me",text\n1,é,"a,\nb"\n2,,"""ü"""\r\n3,"x",NaN\n4,5,6',
    "a.tsv": 'id\t"na""me"\n1\té\n2\t"""ü"""\r\n3\t"x"\n4\t5',
    "b.csv": "id;text\n1;é\n2;ü, x\n",
    "a.jsonl": '{"a": 1.5e-3, "b": NaN, "c": [true, null, -Infinity], "d": "\\ud83d\\ude00"}\r\n'
    '{"a": -1.25E+2, "b": false, "c": [], "d": "é\\"", "e": {"f": {}}}\n{"a": 1}',
}


@pytest.mark.parametrize("name", WRITTEN)
def test_cut_anywhere_it_is_left_or_all_lines_but_the_last_are_what_they_were(
    tmp_path: Path, name: str
) -> None:
    """Never an error that stops the whole files beside it, never an error row."""
    (tmp_path / name).write_text(WRITTEN[name], newline="")
    whole = _rows(_find(tmp_path / name))
    (tmp_path / f"0{name}").write_text(WRITTEN[name], newline="")
    content, seen = WRITTEN[name].encode(), set[int]()
    for size in range(1, len(content)):
        (tmp_path / name).write_bytes(content[:size])
        files = _find(tmp_path)
        if files.left:
            assert [Path(one.path).name for one in files.left] == [name]
            continue
        rows = _rows(_find(tmp_path / name))
        assert rows[:-1] == whole[: max(0, len(rows) - 1)]
        seen.add(len(rows))
    assert seen >= set(range(1, len(whole)))


FEW = LINES[:99].rpartition(b"\n")[0] + b"\n"
BINARY: dict[str, bytes] = {
    "a.parquet": _parquet(),
    "a.arrow": _arrow(pa.ipc.new_file),
    "b.arrow": _arrow(pa.ipc.new_stream)[:-8],  # readers do not need the last eight
    "a.feather": _feather(),
    "a.orc": _orc(),
    "a.jsonl.gz": gzip.compress(FEW),
    "a.csv.bz2": bz2.compress(CELLS[:99]),
    "a.jsonl.xz": lzma.compress(FEW),
    "a.jsonl.zst": bytes(pa.compress(FEW, "zstd", asbytes=True)),
    "a.json": b'[{"text": "row 1", "n": 1.5e-1, "t": true},\n {"text": "\\ud83d\\ude00"}]',
    "b.json": b'[{"text": "row 1", "n": NaN, "t": true}, {"n": -Infinity}]',
}


@pytest.mark.parametrize("name", BINARY)
def test_cut_anywhere_a_file_with_an_end_of_its_own_is_left(tmp_path: Path, name: str) -> None:
    whole, content = WHOLE[_format(name)]
    (tmp_path / whole).write_bytes(content)
    size = len(BINARY[name])
    for cut in (
        *range(min(40, size)),
        *range(40, size - 40, 211),
        *range(max(40, size - 40), size),
    ):
        (tmp_path / name).write_bytes(BINARY[name][:cut])
        if name.endswith(".json") and not cut:
            continue  # nothing, as JSON Lines may be
        left = [Path(one.path).name for one in _find(tmp_path).left]
        assert (left, cut) == ([name], cut)


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_cut_in_the_mark_of_its_encoding_it_is_left(tmp_path: Path, mark: bytes, kind: str) -> None:
    whole, content = WHOLE[kind]
    (tmp_path / whole).write_bytes(content)
    for cut in range(1, len(mark)):
        (tmp_path / f"a.{kind}").write_bytes(mark[:cut])
        assert len(_find(tmp_path).left) == 1


def _rows(files: InputFiles) -> list[list[str]]:
    """As text, whatever types a cut made of them. Fails for a row that is an error."""
    reader = UnitReader(files.shards, files.schema)
    read = reader.read(Unit("u", 0, 0, files.rows))
    reader.close()
    assert read.invalid == {}
    rows, _ = read.plain(files.schema.names).read(0, files.rows)
    return [[as_text(value) for value in row.values() if value is not None] for row in rows]


@pytest.mark.parametrize("end", [b"row,100", b'"row",100', b'"row","100"'])
def test_a_last_record_without_end_is_a_row(tmp_path: Path, end: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(CELLS + end)
    assert _find(tmp_path / "a.csv").rows == 101


@pytest.mark.parametrize(
    "name",
    [
        *("b.parquet.part", "b.parquet.tmp", "b.parquet.crdownload", "Unconfirmed 5.crdownload"),
        *("b.jsonl.inprogress", "part-0-1.inprogress.4f2a", "b.parquet~", "b.csv.PARTIAL"),
        *("_temporary/0/b.parquet", "sub/b.parquet.filepart"),
    ],
)
def test_names_of_what_is_not_whole_are_left(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(_parquet())
    (tmp_path / "a.parquet").write_bytes(_parquet())
    files = _find(tmp_path)

    assert [Path(s.path).name for s in files.shards] == ["a.parquet"]
    assert [one.path for one in files.left] == [str(tmp_path / name)]
    check_whole(files)  # nobody can have meant them
    assert len(discover(Input(path=f"{tmp_path}/*")).shards) == 1


@pytest.mark.parametrize("name", ["notes.txt.tmp", "_SUCCESS", ".b.parquet.part", "_log/x.parquet"])
def test_what_is_no_data_is_not_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"")
    (tmp_path / "a.parquet").write_bytes(_parquet())
    assert _find(tmp_path).left == ()


def test_a_single_file_with_such_a_name_is_refused_unless_its_format_is_given(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.csv.tmp"
    path.write_bytes(CELLS)
    with pytest.raises(UsageError, match="still being written"):
        _find(path)
    assert discover(Input(path=str(path), format="csv")).rows == 100


def test_what_changes_while_it_is_looked_at_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES)
    (tmp_path / "b.jsonl").write_bytes(LINES)
    scan = jsonl.scan

    def slow(path: str, readable: str, source: Input) -> ScannedFile:
        if path.endswith("b.jsonl"):
            with Path(path).open("ab") as file:
                file.write(LINES)
        return scan(path, readable, source)

    monkeypatch.setattr(jsonl, "scan", slow)
    files = _find(tmp_path)
    assert [Path(s.path).name for s in files.shards] == ["a.jsonl"]
    assert ["b.jsonl" in one.path for one in files.left] == [True]
    with pytest.raises(HalfWritten, match="being written"):
        _find(tmp_path / "b.jsonl")


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet", "a.jsonl.gz"])
@pytest.mark.parametrize("time", [0, -86_400, 0.5])
def test_a_file_of_any_time_is_whole(tmp_path: Path, name: str, time: float) -> None:
    """Reproducible archives and layers of images hold files of the year 1970."""
    path = tmp_path / name
    contents = {"csv": CELLS, "parquet": _parquet(), "gz": gzip.compress(LINES)}
    path.write_bytes(contents.get(name.rsplit(".")[-1], LINES))
    os.utime(path, (time, time))
    (tmp_path / "link.jsonl").symlink_to(path)
    for one in (path, tmp_path / "link.jsonl") if name == "a.jsonl" else (path,):
        files = _find(one)
        assert (files.rows, files.left, moved_since(files.shards)) == (100, (), [])
        assert files.shards[0].version == str(float(time))


def test_a_place_where_nothing_is_whole_leaves_the_others_be(tmp_path: Path) -> None:
    for place in ("one", "two", "three"):
        (tmp_path / place).mkdir()
    (tmp_path / "one/a.jsonl").write_bytes(LINES)
    (tmp_path / "two/b.jsonl.part").write_bytes(LINES)
    (tmp_path / "three/c.jsonl").write_bytes(LINES[:-3])
    files = discover(Input(path=tuple(str(tmp_path / p) for p in ("one", "two", "three"))))

    assert [Path(s.path).name for s in files.shards] == ["a.jsonl"]
    assert [Path(one.path).name for one in files.left] == ["b.jsonl.part", "c.jsonl"]
    with pytest.raises(HalfWritten, match=r"b\.jsonl\.part"):
        _find(tmp_path / "two")


def test_what_changed_since_it_was_looked_at_is_known(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES)
    files = _find(tmp_path)
    assert moved_since(files.shards) == []
    with path.open("ab") as file:
        file.write(LINES)
    assert moved_since(files.shards) == [str(path)]
