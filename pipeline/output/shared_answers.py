"""Answers of different engines to the same rows: a file for each engine beside the output, and how
far any two engines agree."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import combinations

import msgspec

from pipeline.output.commit.records import SHARED_ROWS
from pipeline.storage.base import Storage


@dataclass(frozen=True)
class SharedAnswers:
    """``answers``: of ``engine``, by row ("FILE:ROW"); null where it failed."""

    engine: str
    answers: Mapping[str, str | None]


_DECODER = msgspec.json.Decoder(SharedAnswers)


@dataclass(frozen=True)
class EngineAgreement:
    """``rows``: how many both ``engines`` answered; ``equal``: how many got equal answers."""

    engines: tuple[str, str]
    rows: int
    equal: int


def write_shared(storage: Storage, shared: SharedAnswers) -> None:
    digest = hashlib.sha256(shared.engine.encode()).hexdigest()[:12]
    content = json.dumps(asdict(shared), ensure_ascii=False, indent=1)
    storage.replace(f"{SHARED_ROWS}/{digest}.json", content.encode())


def read_shared(storage: Storage) -> list[SharedAnswers]:
    """The answers of all engines, in the order of the engines' names."""
    found = []
    for path, _ in storage.files(SHARED_ROWS):
        with suppress(msgspec.DecodeError, UnicodeDecodeError):  # not our file, or incomplete
            found.append(_DECODER.decode(storage.read(path) or b""))
    return sorted(found, key=lambda one: one.engine)


def agreements(shared: Sequence[SharedAnswers]) -> list[EngineAgreement]:
    """The agreement of every two engines that answered some of the same rows."""
    found = []
    for one, other in combinations(shared, 2):
        both = [
            (answer, other.answers[row])
            for row, answer in one.answers.items()
            if answer is not None and other.answers.get(row) is not None
        ]
        if both:
            equal = sum(mine == theirs for mine, theirs in both)
            found.append(EngineAgreement((one.engine, other.engine), len(both), equal))
    return found
