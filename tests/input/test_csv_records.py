"""CSV text is cut into records where Python's csv module does it, however it comes."""

from __future__ import annotations

import csv
import io
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.input.formats.csv import records as csv_records
from pipeline.input.formats.csv.records import Dialect, blocks
from tests.support.samples import quick

_pieces = st.lists(st.sampled_from(["a", "é", '"', '""', ",", "\n", "\r\n", "\r"]), max_size=16)


def parsed(text: str) -> list[list[str]]:
    return [row for row in csv.reader(io.StringIO(text, newline="")) if row]


@quick
@given(pieces=_pieces, wanted=st.sampled_from([1, 4, 1 << 20]), size=st.integers(1, 9))
def test_records_are_python_s(
    monkeypatch: pytest.MonkeyPatch, pieces: list[str], wanted: int, size: int
) -> None:
    """Quotes in odd places too; the file comes in pieces of any size, blocks are of any size."""
    monkeypatch.setattr(csv_records, "_WANTED", wanted)
    content = "".join(pieces).encode()

    try:
        found = list(
            blocks((content[n : n + size] for n in range(0, len(content), size)), Dialect())
        )
    except ValueError:  # Python takes a quote that is never closed for one that the end closes
        assert parsed("".join(pieces)) != parsed("".join(pieces) + "\n")
        return
    records = [
        block.content[start:stop].decode()
        for block in found
        for start, stop in pairwise([*block.starts, len(block.content)])
    ]
    assert b"".join(block.content for block in found) == content
    assert [block.offset for block in found] == [
        sum(len(b.content) for b in found[:n]) for n in range(len(found))
    ]
    assert [parsed(record) for record in records] == [[row] for row in parsed("".join(pieces))]


def test_a_quote_that_is_never_closed_is_named_by_its_line() -> None:
    with pytest.raises(ValueError, match="line 3 has a quote never closed"):
        list(blocks([b'a,b\n1,2\n3,"4\n5,6\n'], Dialect()))


@pytest.mark.parametrize(
    ("record", "line"), [(0, 1), (1, 2), (2, 4)], ids=["header", "second", "after a long one"]
)
def test_a_record_knows_its_line(record: int, line: int) -> None:
    [block] = blocks([b'a,b\n1,"x\r\ny"\r\n3,4\n'], Dialect())

    assert block.line_of(record) == line
