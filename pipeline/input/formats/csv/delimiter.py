"""The delimiter of CSV text: set by the job, by a file's name, or found in its first records; if
those are ambiguous, the job has to set it. Pure."""

from __future__ import annotations

import csv
import io
import re

from pipeline.errors import UsageError

BY_NAME = {".tsv": "\t", ".tab": "\t"}
_OTHERS = ";\t|"
RECORDS = 50  # that are checked
_NAMES = {"\t": "a tab", ",": "a comma", ";": "a semicolon"}


def delimiter_of(path: str, head: str, *, whole: bool, quotes: bool = True) -> str:
    """The delimiter of text that begins with ``head`` (``whole``: and ends with it). ``quotes``:
    see ``Dialect``. Raises UsageError."""
    bare = "".join(head.split('"')[::2]) if quotes else head  # outside of quotes
    header = next((line for line in re.split(r"[\r\n]", bare) if line), "")
    there = [d for d in _OTHERS if d in header]
    if not there:
        return ","
    possible = [",", *there]
    fits = [d for d in possible if _fits(head, d, whole=whole, quotes=quotes)]
    if len(fits) == 1 and (fits[0] == "," or "," not in header):
        return fits[0]
    raise UsageError(
        f"{path}: its header line does not tell what separates its cells: "
        + " or ".join(map(name_of, possible)),
        f"say it: input: {{delimiter: {' or '.join(map(_quoted, possible))}}}",
    )


def name_of(delimiter: str) -> str:
    """Its name for messages."""
    return _NAMES.get(delimiter, repr(delimiter))


def _quoted(delimiter: str) -> str:
    return '"\\t"' if delimiter == "\t" else f'"{delimiter}"'


def _fits(head: str, delimiter: str, *, whole: bool, quotes: bool) -> bool:
    """Whether it splits all records into the same number of cells, more than one."""
    found: list[int] = []
    try:
        text = io.StringIO(head, newline="")
        for cells in csv.reader(
            text, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
        ):
            found += [len(cells)] if cells else []
    except csv.Error:
        return False
    if not whole and len(found) > 1:
        found.pop()  # it may be incomplete
    return len(set(found[:RECORDS])) == 1 and found[0] > 1
