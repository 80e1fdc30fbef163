"""CSV whose cells are separated by something else, and text in other encodings than UTF-8."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline import Job, job_from
from pipeline.driver.plan.plan import check_input, make_plan
from pipeline.errors import HalfWritten, UsageError
from pipeline.input import shards
from pipeline.input.formats.csv import records as csv_records
from pipeline.input.reader import UnitReader
from pipeline.input.shards import InputFiles, discover
from pipeline.input.units import cut
from pipeline.job.job import Input
from pipeline.output.dataset import Dataset
from pipeline.output.verify.dataset import verify
from pipeline.storage.base import open_storage
from tests.chaos.in_process import run_here
from tests.support.samples import write_model

pytestmark = pytest.mark.usefixtures("large_units")

ROWS = [{"id": n, "text": f'Zoë, "{n}"; café\tx\n{n}'} for n in range(300)]


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RACKMILL_HOME", str(tmp_path / "home"))


def cells(delimiter: str) -> str:
    rows = (f'{r["id"]}{delimiter}"{str(r["text"]).replace(chr(34), chr(34) * 2)}"\n' for r in ROWS)
    return f"id{delimiter}text\n" + "".join(rows)


def lines() -> str:
    return "".join(f'{{"id": {r["id"]}, "text": "Zoë {r["id"]}"}}\n' for r in ROWS)


def job(folder: Path, name: str, **options: Any) -> Job:
    write_model(folder / "model")
    return job_from(
        {
            "name": "told",
            "model": str(folder / "model"),
            "input": {"path": str(folder / name), **options},
            "prompt": "{text}",
            "output": {"path": str(folder / "out")},
            "engine": {"kind": "simulated"},
        }
    )


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("a.tsv", cells("\t").encode(), {"quotes": "double"}),
        ("a.TAB.gz", gzip.compress(cells("\t").encode()), {"quotes": "double"}),
        ("a.csv", cells(";").encode(), {}),
        ("a.csv", b"\xef\xbb\xbf" + cells(";").encode(), {}),
        ("a.csv", cells("\t").encode(), {}),
        ("a.csv", cells("|").encode(), {"delimiter": "|"}),
        ("a.csv", cells("^").encode(), {"delimiter": "^"}),
        ("a.csv", cells(";").encode("cp1252"), {"encoding": "cp1252"}),
        ("a.csv", cells(",").encode("latin-1"), {"encoding": "latin-1"}),
        ("a.csv.gz", gzip.compress(cells(",").encode("cp1252")), {"encoding": "cp1252"}),
        ("a.csv", cells(",").encode("utf-16-le"), {"encoding": "utf-16-le"}),
        ("a.tsv", cells("\t").encode("utf-16"), {"quotes": "double"}),
        ("a.csv", cells(",").encode("utf-7"), {"encoding": "utf-7"}),
    ],
)
def test_cells_come_out_as_they_went_in_and_verify_reads_them_too(
    tmp_path: Path, name: str, content: bytes, options: dict[str, Any]
) -> None:
    (tmp_path / name).write_bytes(content)
    run_here(job(tmp_path, name, **options))
    storage = open_storage(str(tmp_path / "out"))
    rows = Dataset(storage).first_rows(999)

    assert [{"id": row["id"], "text": row["text"]} for row in rows] == ROWS
    verdict = verify(storage)
    assert (verdict.faults, verdict.compared_rows) == ([], len(ROWS))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_json_lines_have_encodings_too(tmp_path: Path, name: str) -> None:
    content = lines().encode("cp1252")
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    run_here(job(tmp_path, name, encoding="cp1252"))
    storage = open_storage(str(tmp_path / "out"))

    assert Dataset(storage).first_rows(1)[0]["text"] == "Zoë 0"
    assert verify(storage).faults == []


ENDS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"  # lines for Python, and none for CSV and JSON


@pytest.mark.parametrize(
    ("name", "text", "encoding"),
    [
        ("a.csv", f"text,n\nx{ENDS}y,1\n{ENDS},2\n", "utf-16"),
        ("a.tsv", f"text\tn\nx{ENDS}y\t1\n{ENDS}\t2\n", "utf-8-sig"),
        ("a.csv", "text,n\nx\x85y\x0b,1\n\x85,2\n", "latin-1"),
        ("a.jsonl", '{"text": "x\u2028y\u2029\x85"}\n{"text": "\u2028"}\n', "utf-16"),
        ("a.jsonl", '{"text": "x\x85y"}\n\x0b\n{"text": "\x85"}\n', "latin-1"),
        ("a.json", '[{"text": "x\u2028y"}, {"text": "\u2029\x85"}]', "utf-16-be"),
    ],
)
def test_what_ends_a_line_elsewhere_ends_none_and_verify_agrees(
    tmp_path: Path, name: str, text: str, encoding: str
) -> None:
    (tmp_path / name).write_bytes(text.encode(encoding))
    run_here(job(tmp_path, name, encoding=encoding))
    storage = open_storage(str(tmp_path / "out"))

    assert Dataset(storage).first_rows(1)[0]["text"].startswith("x")
    verdict = verify(storage)
    assert (verdict.faults, verdict.compared_rows) == ([], 2)


def test_an_output_that_knows_utf_16_by_its_earlier_name_goes_on_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.csv").write_bytes(cells(",").encode("utf-16"))
    with monkeypatch.context() as patch:
        patch.setattr(shards, "unpacked_kind", lambda *told: "utf-16")
        run_here(one := job(tmp_path, "a.csv"))
    plan = make_plan(check_input(one), fetch=False)
    verdict = verify(open_storage(str(tmp_path / "out")))

    assert (plan.missing, plan.changes.lines()) == ((), [])
    assert (verdict.faults, verdict.compared_rows) == ([], len(ROWS))


def find(folder: Path, content: bytes, name: str = "a.csv", **options: Any) -> InputFiles:
    (folder / name).write_bytes(content)
    return discover(Input(path=str(folder / name), **options))


def test_what_was_found_out_by_the_records_is_said(tmp_path: Path) -> None:
    [note] = find(tmp_path, b"a;b\n1;2\n").notes
    assert "a.csv: a semicolon separates the cells" in note
    assert "input.delimiter" in note
    assert find(tmp_path, b"a;b\n1;2\n", delimiter=";").notes == ()
    assert find(tmp_path, b"a\tb\n1\t2\n", name="b.tsv").notes == ()
    assert find(tmp_path, b"a,b\n1,2\n").notes == ()


@pytest.mark.parametrize(
    "content",
    [
        b"a,b\n1;5,2\n",
        b"a,b;c\n1,2\n3,4\n",
        b'"a;b",c\n1,2\n',
        b"text\na; b; c\n",
        b'text\n"a, b"\n',
        b"a,b\n",
        b"",
        b'a,b\n"x;y\nz;w",2\n',
    ],
)
def test_commas_stay_commas(tmp_path: Path, content: bytes) -> None:
    assert [s.delimiter for s in find(tmp_path, content).shards] == [""]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a;b,c\n1;2,3\n", "a comma or a semicolon"),
        (b"name; price, EUR; n\nx;1,5;2\ny;2;3\n", "a comma or a semicolon"),
        (b"text; raw\nhello\nworld\n", "a comma or a semicolon"),
        (b"a;b\tc\n1;2\t3\n", "a semicolon or a tab"),
    ],
)
def test_where_it_could_be_two_things_the_job_has_to_say(
    tmp_path: Path, content: bytes, says: str
) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        find(tmp_path, content)
    assert 'input: {delimiter: "' in "".join(caught.value.hints)
    assert find(tmp_path, content, delimiter="^").schema.names


@pytest.mark.parametrize("delimiter", ["", ";;", "\n", '"', "é"])
def test_a_delimiter_is_one_character(tmp_path: Path, delimiter: str) -> None:
    with pytest.raises(UsageError, match=r"input\.delimiter.*one ASCII character"):
        job(tmp_path, "a.csv", delimiter=delimiter)


@pytest.mark.parametrize(
    "encoding", ["klingon", "base64", "rot13", "", "undefined", "idna", "punycode"]
)
def test_an_encoding_is_one_that_python_knows(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(UsageError, match=r"input\.encoding.*no encoding"):
        job(tmp_path, "a.csv", encoding=encoding)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_text_without_the_mark_that_its_encoding_asks_for_comes_with_what_works(
    tmp_path: Path, encoding: str
) -> None:
    content = "text\nrow\n".encode(f"{encoding}-le")
    with pytest.raises(UsageError, match="byte order") as caught:
        find(tmp_path, content, encoding=encoding)
    assert f"{encoding}-le" in "".join(caught.value.hints)
    assert find(tmp_path, content, encoding=f"{encoding}-le").rows == 1


def test_half_a_surrogate_pair_in_utf_7_is_an_error_row_or_a_refused_file(tmp_path: Path) -> None:
    assert find(tmp_path, b'{"a": "+2AA-"}\n{"a": "x"}\n', "a.jsonl", encoding="utf-7").rows == 2
    with pytest.raises(UsageError, match="is not UTF-8"):
        find(tmp_path, b"a,b\n+2AA-,2\n", encoding="utf-7")


def test_keys_for_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"input\.delimiter is for CSV"):
        find(tmp_path, b'{"a": 1}\n', "a.jsonl", delimiter=";")
    with pytest.raises(UsageError, match=r"input\.encoding is for CSV and JSONL"):
        find(tmp_path, b"PAR1", "a.parquet", encoding="cp1252")
    with pytest.raises(UsageError, match=r"input\.quotes is for CSV"):
        find(tmp_path, b'{"a": 1}\n', "a.jsonl", quotes="none")


@pytest.mark.parametrize("at", [3, 70_000, 3 << 20])
def test_csv_that_is_not_utf_8_is_refused_with_the_byte(tmp_path: Path, at: int) -> None:
    text = b"t\n" + b"x" * (at - 2) + b"\xe9\n"
    with pytest.raises(UsageError, match=rf"byte 0xe9 at offset {at:,} is not UTF-8") as caught:
        find(tmp_path, text)
    assert "encoding: cp1252" in "".join(caught.value.hints)


@pytest.mark.parametrize("at", [3, (1 << 20) - 1, (1 << 20) + 1])
@pytest.mark.parametrize(
    ("encoding", "byte"), [("cp1252", b"\x81"), ("utf-8", b"\xe9"), ("shift_jis", b"\xff")]
)
def test_a_byte_that_the_encoding_does_not_have_is_refused_with_its_offset(
    tmp_path: Path, at: int, encoding: str, byte: bytes
) -> None:
    text = b"t\n" + b"x" * (at - 2) + byte + b"\n"
    with pytest.raises(UsageError, match=rf"byte 0x{byte.hex()} at offset {at:,} is not"):
        find(tmp_path, text, encoding=encoding)


def test_a_line_of_json_that_is_not_utf_8_is_an_error_row_with_the_byte(tmp_path: Path) -> None:
    good = b'{"text": "a"}\n'
    files = find(tmp_path, good * 200 + b'{"text": "caf\xe9"}\n', "a.jsonl")
    [unit] = cut(files.shards, 1000)
    reader = UnitReader(files.shards, files.schema)
    rows = reader.read(unit)
    reader.close()

    assert rows.table.column("text").null_count == 1
    assert f"byte 0xe9 at offset {len(good) * 200 + 13:,} is not UTF-8" in rows.invalid[200]
    assert "encoding" in rows.invalid[200]


LETTERS = ['"To be', '5"', '"Hi" he said', '"', '6"" of "x', '""']


def as_letters(delimiter: str) -> str:
    return f"id{delimiter}text\n" + "".join(
        f"{number}{delimiter}{text}\n" for number, text in enumerate(LETTERS)
    )


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("a.tsv", as_letters("\t").encode(), {}),
        ("a.tab.gz", gzip.compress(as_letters("\t").encode()), {}),
        ("a.tsv", as_letters("\t").encode("utf-16"), {}),
        ("a.tsv", as_letters("\t")[:-1].replace("\n", "\r\n").encode(), {}),
        ("a.csv", as_letters(",").encode(), {}),
        ("a.csv", as_letters(";").encode(), {}),
        ("a.txt", as_letters("|").encode(), {"format": "csv", "delimiter": "|"}),
    ],
    ids=["tsv", "packed", "UTF-16", "CR LF", "commas", "semicolons", "bars"],
)
def test_quotes_are_letters_where_the_job_says_so_and_verify_reads_them_too(
    tmp_path: Path, name: str, content: bytes, options: dict[str, Any]
) -> None:
    (tmp_path / name).write_bytes(content)
    run_here(job(tmp_path, name, quotes="none", **options))
    storage = open_storage(str(tmp_path / "out"))
    rows = Dataset(storage).first_rows(99)

    assert [row["text"] for row in rows] == LETTERS
    verdict = verify(storage)
    assert (verdict.faults, verdict.compared_rows) == ([], len(LETTERS))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('id\ttext\n1\t"To be\n2\tor not to be"\n3\tx\n', 2),
        ('id\ttext\n1\tx\n3\t"Hi" he said\n', 3),
        ('id\ttext\r1\tx\r3\t5" wide\r', 3),
        ('id\t"text\n1\tx\n', 1),
        ('id\ttext\n1\tx\n\n2\t"\n', 4),
        ("id\ttext\n" + '1\t"x"\n' * 300_000 + '2\t"x\n3\ty\n', 300_002),
        ('id\ttext\n1\tx\n3\t"Hi" he', 3),
    ],
    ids=["two lines", "text after", "CR", "header", "alone", "late", "no end"],
)
@pytest.mark.parametrize("name", ["a.tsv", "a.TAB", "b.txt"])
def test_a_file_of_tabs_whose_quotes_may_be_letters_is_refused(
    tmp_path: Path, content: str, line: int, name: str
) -> None:
    options = {"format": "csv", "delimiter": "\t"} if name == "b.txt" else {}
    with pytest.raises(UsageError, match=rf"{name}: line {line} has quotes") as caught:
        find(tmp_path, content.encode(), name, **options)
    assert not isinstance(caught.value, HalfWritten)
    for quotes in ("none", "double"):
        assert f"{{quotes: {quotes}}}" in "".join(caught.value.hints)
    assert find(tmp_path, content.encode(), name, quotes="none", **options).rows


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("id\ttext\n1\tx\n", [{"id": 1, "text": "x"}]),
        ('id\t"te""xt"\n1\t"x\ty"', [{"id": 1, 'te"xt': "x\ty"}]),
        ('\ufeff"id"\ttext\r\n1\t""\r\n\r\n"2"\t"""a"""\r\n', None),
    ],
)
def test_a_file_of_tabs_that_leaves_no_doubt_needs_no_key(
    tmp_path: Path, content: str, rows: list[dict[str, Any]] | None
) -> None:
    files = find(tmp_path, content.encode(), "a.tsv")
    reader = UnitReader(files.shards, files.schema)
    [unit] = cut(files.shards, 1000)
    found = reader.read(unit).table.to_pylist()
    reader.close()
    assert found == (rows or [{"id": 1, "text": ""}, {"id": 2, "text": '"a"'}])


@pytest.mark.parametrize(
    "content",
    [
        "id,text\n1,a\n2,b\n" + '3,"c\n' + "4,d\n" * 1000,
        'id,"text\n' + "1,a\n" * 1000,
        "id,text\n1,a\n" + '2,"' + "line\n" * 250_000,
        'text\na\n"b\n' + "c\n" * 600_000,
        "id,text\n" + "1,a\n" * 300_000 + '2,"b\n' + "3,c\n" * 9,
    ],
    ids=["line 3", "header", "a record as no other", "one column", "ten records are left"],
)
def test_a_quote_that_is_open_long_before_the_end_is_refused_with_its_line(
    tmp_path: Path, content: str
) -> None:
    """Also beside whole files: it would be left for the next run for ever."""
    (tmp_path / "b.csv").write_text("id,text\n1,a\n")
    line = content[: content.index('"')].count("\n") + 1
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(UsageError, match=rf"a\.csv: .*line {line} has a quote") as caught:
        discover(Input(path=str(tmp_path)))
    assert not isinstance(caught.value, HalfWritten)
    assert "quotes: none" in "".join(caught.value.hints)


def test_a_record_that_never_ends_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_records, "_MOST", 2 << 20)
    with pytest.raises(UsageError, match="line 2 has more than 2 MiB, or a quote never closed"):
        find(tmp_path, b'id,text\n1,"' + b"x\n" * (4 << 20))


@pytest.mark.parametrize("letter", ["\u2028", "\x0b", "\x85"])
def test_only_line_ends_end_the_header(tmp_path: Path, letter: str) -> None:
    found = find(tmp_path, f"a{letter}x;b\n1;2\n".encode(), "a.csv")

    assert found.schema.names == [f"a{letter}x", "b"]


def test_other_quotes_are_another_input_only_where_there_are_quotes(tmp_path: Path) -> None:
    for content, same in ((b'a,b\n1,"2"\n', False), (b"a,b\n1,2\n", True)):
        found = [find(tmp_path, content, quotes=q).shards[0].identity for q in ("double", "none")]
        one, other = ({**identity, "version": ""} for identity in found)
        assert (one == other) is same


def test_another_encoding_or_delimiter_is_another_input(tmp_path: Path) -> None:
    content = b"a;b\n1;2\n"
    kinds = [find(tmp_path, content, delimiter=d).shards[0].identity for d in ";^"]
    assert kinds[0] != kinds[1]
    assert pa.types.is_string(find(tmp_path, content, delimiter="^").schema.field(0).type)
