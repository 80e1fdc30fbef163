"""Input files that are damaged, endless, lying or no files at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tests.hostile.inputs import Hostile, both, fifo, folder, gone, link, only, rows
from tests.hostile.thrift import parquet


def _flipped(where: float) -> object:
    """The usual input with some bytes of it turned round."""

    def flip(place: Path) -> None:
        path = place / "rows/a.parquet"
        pq.write_table(pa.table({"text": [f"text {i}" for i in range(5000)]}), path)
        content = bytearray(path.read_bytes())
        start = int(len(content) * where)
        content[start : start + 24] = bytes(byte ^ 0xFF for byte in content[start : start + 24])
        path.write_bytes(content)

    return flip


def _cut_off(place: Path) -> None:
    path = place / "rows/a.parquet"
    path.write_bytes(path.read_bytes()[:-20])


def _long_footer(place: Path) -> None:
    path = place / "rows/a.parquet"
    path.write_bytes(path.read_bytes()[:-8] + (2**31 - 1).to_bytes(4, "little") + b"PAR1")


def _unreadable(place: Path) -> None:
    (place / "rows/a.parquet").chmod(0)


def _claims(number: int, groups: list[int]) -> Hostile:
    return Hostile(("rows/a.parquet",), prepare=only("rows/a.parquet", parquet(number, groups)))


def _lines(*rows: object) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def _jsonl(content: str | bytes, *says: str) -> Hostile:
    return Hostile(("rows/a.jsonl", *says), prepare=only("rows/a.jsonl", content))


def _csv(content: str | bytes, *says: str) -> Hostile:
    return Hostile(("rows/a.csv", *says), prepare=only("rows/a.csv", content))


def _input(path: str) -> dict[str, str]:
    return {"input": f"input: {{path: {json.dumps(path)}}}"}


_PLACES = {
    "a pattern that matches nothing": Hostile(
        ("job.yaml, line 3", "no file matches"), lines=_input("rows/*.csv")
    ),
    "a pattern that is none": Hostile(
        ("job.yaml, line 3", "input.path"), lines=_input("rows/[z-a]*")
    ),
    "a pattern with stars in a word": Hostile(
        ("job.yaml, line 3", "input.path"), lines=_input("rows/a**b*")
    ),
    "a path with a null character": Hostile(
        ("job.yaml, line 3", "control character"), lines={"input": 'input: {path: "rows\\0"}'}
    ),
    "an empty path": Hostile(("job.yaml, line 3", "empty"), lines=_input("")),
    "a path of ten thousand letters": Hostile(
        ("job.yaml, line 3", "no such file"), lines=_input("a" * 10_000)
    ),
    "a protocol that nobody knows": Hostile(
        ("job.yaml, line 3", "evil"), lines=_input("evil://rows")
    ),
    "references that a file resolves": Hostile(
        ("job.yaml, line 3", "reference"), lines=_input("reference::rows/evil.json")
    ),
    "a pipe that nobody writes to": Hostile(
        ("not a file",), lines=_input("rows/a.jsonl"), prepare=fifo("rows/a.jsonl")
    ),
    "a folder with nothing but a pipe": Hostile(
        ("no Parquet",), prepare=both(gone("rows/a.parquet"), fifo("rows/a.jsonl"))
    ),
    "a device that never ends": Hostile(
        ("not a file",), lines=_input("rows/a.jsonl"), prepare=link("rows/a.jsonl", "/dev/zero")
    ),
    "a link that leads to itself": Hostile(
        ("input.path",), lines=_input("rows/b.jsonl"), prepare=link("rows/b.jsonl", "b.jsonl")
    ),
    "a folder that is called a file": Hostile(
        ("no file matches",),
        lines=_input("rows/*.parquet"),
        prepare=both(gone("rows/a.parquet"), folder("rows/a.parquet")),
    ),
    "the output as input": Hostile(("output.path",), lines={"output": "output: {path: rows}"}),
    "an output within the input": Hostile(
        ("output.path",), lines={"output": "output: {path: rows/labels}"}
    ),
    "an output that the input's pattern matches": Hostile(
        ("output.path",),
        lines=_input("rows/**/*.parquet") | {"output": "output: {path: rows/labels}"},
    ),
    "a store of answers within the input": Hostile(
        ("duplicates.store",), lines={"engine": "duplicates: {store: rows/answers}"}
    ),
}
if os.geteuid():
    _PLACES["a file that may not be read"] = Hostile(("rows/a.parquet",), prepare=_unreadable)

_PARQUET = {
    "a Parquet file with a broken footer": Hostile(("rows/a.parquet",), prepare=_flipped(0.97)),
    "a Parquet file with a broken page": Hostile(
        ("rows/a.parquet", "cannot be read"), prepare=_flipped(0.3)
    ),
    "a Parquet file that was cut off": Hostile(("rows/a.parquet", "Parquet"), prepare=_cut_off),
    "a Parquet file whose footer is longer than the file": Hostile(
        ("rows/a.parquet", "Parquet"), prepare=_long_footer
    ),
    "a Parquet file with another magic": Hostile(
        ("rows/a.parquet",), prepare=only("rows/a.parquet", b"EVIL" * 1000)
    ),
    "a Parquet file of eight bytes": Hostile(
        ("rows/a.parquet",), prepare=only("rows/a.parquet", b"PAR1PAR1")
    ),
    "a Parquet file that claims a billion rows": _claims(10**9, [10**9]),
    "a Parquet file that claims more rows than can be counted": _claims(2**62, [2**62]),
    "a Parquet file that claims fewer than no rows": _claims(-5, [-5]),
    "a Parquet file whose groups disagree with its footer": _claims(10, [3, 4]),
    "a Parquet file with a column twice": Hostile(
        ("rows/a.parquet", "twice"),
        prepare=lambda place: pq.write_table(
            pa.table([["a"], ["b"]], names=["text", "text"]), place / "rows/a.parquet"
        ),
    ),
    "ten thousand columns, none of them the right one": Hostile(
        ("{text}", "no such column"), prepare=rows(**{f"column {i}": [1] for i in range(10_000)})
    ),
    "a column whose name clears the terminal": Hostile(
        ("{text}", "\\x1b[2J"), prepare=rows(**{"\x1b[2J": [1]})
    ),
}

_JSONL = {
    "JSONL with another field in every line": _jsonl(
        _lines(*({f"key {i}": i} for i in range(5000))), "different fields"
    ),
    "JSONL of null characters": _jsonl(b"\0" * 100_000, "no line of it is a JSON object"),
    "JSONL of a single bracket repeated": _jsonl("[" * 1_000_000, "no line of it is a JSON object"),
    "JSONL of objects a hundred thousand deep": _jsonl(
        '{"a":' * 100_000 + "1" + "}" * 100_000, "no line of it is a JSON object"
    ),
    "JSONL with a name that is half a character": _jsonl(
        '{"\\ud800": 1, "text": "a"}\n', "no line of it is a JSON object"
    ),
    "JSONL that is a picture": _jsonl(b"\x89PNG\r\n\x1a\n" + os.urandom(5000), "JSON object"),
    "JSONL with a line without end": _jsonl(
        b'{"text": "' + b"x" * (65 << 20), "no line of it is a JSON object"
    ),
}

_CSV = {
    "CSV with a quote that never closes": _csv(
        'text\n"one\n' + "two\n" * 600_000, "line 2 has a quote never closed"
    ),
    "CSV whose header is not UTF-8": _csv(b"te\xff\xfext,id\n1,2\n"),
    "CSV with a line too long": _csv("text,id\none,1\ntwo,2,3\n", "fix the line"),
    "CSV that is a program": _csv(b"\x7fELF" + os.urandom(5000)),
}

_CASES = _PLACES | _PARQUET | _JSONL | _CSV


@pytest.mark.parametrize("name", _CASES)
def test_hostile_data_is_refused(name: str, face) -> None:
    face(_CASES[name])


@pytest.mark.parametrize(
    "field",
    [
        pa.array([{"a": [{"b": None}]}, None]),
        pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
        pa.array([1, 2], pa.decimal128(38, 10)),
        pa.array([1, 2], pa.duration("ns")),
        pa.array([2**62, -(2**62)], pa.timestamp("us")),
        pa.array([1, 2**60 + 1], pa.timestamp("ns")),
        pa.array([b"\xff", b"\0"], pa.large_binary()),
        pa.array(["a", "b"]).dictionary_encode(),
        pa.nulls(2),
        pa.array([float("nan"), float("inf")]),
    ],
    ids=lambda field: str(field.type)[:30],
)
def test_columns_of_any_type_are_carried_along(field: pa.Array, face, tmp_path: Path) -> None:
    face(Hostile(code=0, prepare=rows(text=["one", "two"], more=field)))
    written = ds.dataset(tmp_path / "out", format="parquet").to_table()
    assert written.num_rows == 2
    assert "more" in written.column_names


def test_a_column_that_is_called_like_a_path_is_only_a_column(face, tmp_path: Path) -> None:
    names = ["../../up", "/etc/passwd", "a/b\\c", "_rackmill", "\x1b[31m", "", " ", "CON"]
    columns = {name: ["x", "y"] for name in names} | {"text": ["one", "two"]}
    face(Hostile(code=0, prepare=rows(**columns)))
    written = ds.dataset(tmp_path / "out", format="parquet").to_table()
    assert set(names) <= set(written.column_names)


@pytest.mark.long
def test_a_hundred_thousand_files_are_found(face) -> None:
    def many(place: Path) -> None:
        for number in range(100_000):
            (place / f"rows/{number}.jsonl").write_text('{"text": "a"}\n')

    face(Hostile(code=0, command=("plan", "job.yaml"), prepare=both(gone("rows/a.parquet"), many)))
