"""The paths in an output folder, and the records that say which files count."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

import msgspec

from pipeline.output.tally import Tally
from pipeline.rows.row_range import RowRange

STATE = "_rackmill"
MANIFEST = f"{STATE}/manifest.json"
JOB = f"{STATE}/job.json"
COMMITS = f"{STATE}/commits"
PACKS = f"{STATE}/packs"
ATTEMPTS = f"{STATE}/attempts"
ANSWERS = f"{STATE}/answers"
SHARED_ROWS = f"{STATE}/shared_rows"
RUNS = f"{STATE}/runs"
LOGS = f"{STATE}/logs"
REVIEWS = f"{STATE}/reviews"
CANCEL = f"{STATE}/cancel.json"
CLEARING = f"{STATE}/clearing"
SUMMARY = f"{STATE}/summary.json"
TRUST = f"{STATE}/trust.json"
TRUST_PICTURE = f"{STATE}/trust.png"
REPORT = f"{STATE}/report.md"
PAGE = f"{STATE}/report.html"
SUCCESS = "_SUCCESS"
OUTPUT_NAME = re.compile(r"\d{5,}-\d{12,}\.parquet")
TEMPORARY_NAME = re.compile(r"\..+\.[0-9a-f]{12}")  # of a file that is being written
_WORD = re.compile(r"[0-9A-Za-z_]{1,64}")


@dataclass(frozen=True)
class CommitRecord:
    """Which attempt is the unit's result, and what it contains. ``size`` in bytes.

    ``generation``: how often error rows of the unit were done again, or its labels changed.
    """

    unit: str
    attempt: str
    file: str
    size: int
    sha256: str
    tally: Tally
    generation: int = 0

    @property
    def row_range(self) -> RowRange:
        """The rows whose result it is."""
        shard, _, start = self.file.removesuffix(".parquet").partition("-")
        return RowRange(int(shard), int(start), int(start) + self.tally.rows)

    def encode(self) -> bytes:
        """Short JSON without zero or empty values: there may be a million records to read."""
        counts = {name: count for name, count in self.tally.as_json().items() if count}
        fields = {**vars(self), "tally": counts}
        if not self.generation:
            fields.pop("generation", None)
        return json.dumps(fields).encode()

    @property
    def attempt_path(self) -> str:
        return attempt_path(self.unit, self.generation, self.attempt)

    @property
    def path(self) -> str:
        """The path of the record itself."""
        return record_path(self.unit, self.generation)


@dataclass(frozen=True)
class Cut:
    """The record of a unit that was cut before row ``cut`` of its shard."""

    unit: str
    cut: int


class UnitIsCut(Exception):
    """The unit no longer exists: it was cut before row ``at`` of its shard."""

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.at = at


@dataclass(frozen=True)
class CommitState:
    """The content of the records: results by unit, and where units were cut (row of the shard)."""

    commits: Mapping[str, CommitRecord]
    cuts: Mapping[str, int]

    @property
    def generation(self) -> int:
        """Changes whenever error rows are done again."""
        return sum(record.generation for record in self.commits.values())


def decode(content: bytes) -> CommitRecord | Cut:
    """Raises ValueError if ``content`` is no record, or names files that no record may name."""
    try:
        record = _COMMIT.decode(content)
    except msgspec.ValidationError:
        return _CUT.decode(content)
    if not (_WORD.fullmatch(record.unit) and _WORD.fullmatch(record.attempt)):
        raise ValueError("unit or attempt is no word")
    if not OUTPUT_NAME.fullmatch(record.file):
        raise ValueError(f"{record.file!r} is no name of an output file")
    return record


def _counter(kind: Any, counts: Any) -> Any:
    """Tallies count by text or by number; in JSON numbers are text, too."""
    if get_origin(kind) is not Counter or not isinstance(counts, dict):
        raise ValueError(f"{counts!r} counts nothing")
    if any(type(number) is not int for number in counts.values()):
        raise ValueError("a count is no number")
    counter: Counter[Any] = Counter()
    numbered = get_args(kind) == (int,)
    # Counter's own update is slow, and there are many
    dict.update(counter, {int(k): n for k, n in counts.items()} if numbered else counts)
    return counter


_COMMIT = msgspec.json.Decoder(CommitRecord, dec_hook=_counter)
_CUT = msgspec.json.Decoder(Cut)


def record_path(unit: str, generation: int) -> str:
    return f"{COMMITS}/{_numbered(unit, generation)}.json"


def attempt_path(unit: str, generation: int, attempt: str) -> str:
    return f"{ATTEMPTS}/{_numbered(unit, generation)}-{attempt}.parquet"


def _numbered(unit: str, generation: int) -> str:
    return f"{unit}.{generation}" if generation else unit


def newest(paths: Iterable[str]) -> list[str]:
    """The paths of each unit's highest generation, without temporary files."""
    highest: dict[str, tuple[int, str]] = {}
    for path in paths:
        name = path.rsplit("/", 1)[-1]
        if name.startswith("."):
            continue
        unit, generation = _unit_and_generation(name.removesuffix(".json"))
        if unit not in highest or highest[unit][0] < generation:
            highest[unit] = generation, path
    return [path for _, path in highest.values()]


def hopeless_attempts(paths: Iterable[str], state: CommitState) -> list[str]:
    """The paths of attempts that can no longer become a result, whichever process wrote them, and
    of attempts of unknown units."""
    found = []
    for path in paths:
        name = path.rsplit("/", 1)[-1]
        if name.startswith("."):
            continue
        numbered, _, attempt = name.removesuffix(".parquet").rpartition("-")
        unit, generation = _unit_and_generation(numbered)
        record = state.commits.get(unit)
        if (
            record is None
            or record.generation > generation
            or (record.generation == generation and record.attempt != attempt)
        ):
            found.append(path)
    return found


def is_temporary(path: str) -> bool:
    """Whether this is a file that was being written, not a finished one."""
    return TEMPORARY_NAME.fullmatch(path.rsplit("/", 1)[-1]) is not None


def _unit_and_generation(numbered: str) -> tuple[str, int]:
    unit, dot, number = numbered.partition(".")
    return (unit, int(number)) if dot and number.isdecimal() else (numbered, 0)
