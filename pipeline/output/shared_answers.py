"""What unlike engines say to the same rows: a file for each beside the output, and how far any two
of them agree."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

from pipeline.output.commit.records import SHARED_ROWS
from pipeline.storage.base import Storage


@dataclass(frozen=True)
class SharedAnswers:
    """``answers``: of ``engine``, by row ("FILE:ROW"); null where it has failed."""

    engine: str
    answers: Mapping[str, str | None]


@dataclass(frozen=True)
class EngineAgreement:
    """Of the ``rows`` that both ``engines`` answered they gave ``equal`` answers to so many."""

    engines: tuple[str, str]
    rows: int
    equal: int


def write_shared(storage: Storage, shared: SharedAnswers) -> None:
    digest = hashlib.sha256(shared.engine.encode()).hexdigest()[:12]
    content = json.dumps(asdict(shared), ensure_ascii=False, indent=1)
    storage.replace(f"{SHARED_ROWS}/{digest}.json", content.encode())


def read_shared(storage: Storage) -> list[SharedAnswers]:
    """Of all engines, in the order of their names."""
    found = []
    for path, _ in storage.files(SHARED_ROWS):
        try:
            content = json.loads(storage.read(path) or b"")
            found.append(SharedAnswers(content["engine"], content["answers"]))
        except (ValueError, KeyError, TypeError):
            continue  # not ours, or half of one
    return sorted(found, key=lambda one: one.engine)


def agreements(shared: Sequence[SharedAnswers]) -> list[EngineAgreement]:
    """Of each two of them that have answered some row in common."""
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
