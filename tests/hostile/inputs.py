"""What a hostile input is, and the small healthy job that each of them spoils."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.samples import write_model

Prepare = Callable[[Path], object]

# the order fixes the line numbers: name is line 1, model 2, input 3, prompt 4, output 5, engine 6
_LINES = {
    "name": "name: hostile",
    "model": "model: ./model",
    "input": "input: {path: rows}",
    "prompt": 'prompt: "{text}"',
    "output": "output: {path: out}",
    "engine": "engine: {kind: simulated}",
}


@dataclass(frozen=True)
class Hostile:
    """One input. ``code``: how rackmill ends on it; ``says``: what it must say on stderr.

    ``lines`` replace those of the job file, ``text`` all of it. ``prepare`` writes into the place;
    ``errors`` are the types that the rows' errors have, one for each row that fails.
    """

    says: tuple[str, ...] = ()
    code: int = 2
    lines: Mapping[str, str] = field(default_factory=dict)
    text: str | bytes | None = None
    prepare: Prepare = lambda place: None
    arguments: tuple[str, ...] = ()
    command: tuple[str, ...] = ("run", "job.yaml")
    environment: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[str, ...] = ()

    def write(self, place: Path) -> None:
        """A healthy job in ``place``, spoilt."""
        write_model(place / "model")
        (place / "rows").mkdir()
        write_rows(place)
        text = self.text
        if text is None:
            text = "".join(f"{line}\n" for line in (_LINES | dict(self.lines)).values() if line)
        (place / "job.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        self.prepare(place)


def write_rows(place: Path, **columns: object) -> Path:
    """Two rows of input, or other ones."""
    path = place / "rows/a.parquet"
    pq.write_table(pa.table(columns or {"id": [1, 2], "text": ["one", "two"]}), path)
    return path


def rows(**columns: object) -> Prepare:
    """Other rows than the usual two."""
    return lambda place: write_rows(place, **columns)


def file(name: str, content: bytes | str) -> Prepare:
    """A file in the place."""

    def write(place: Path) -> None:
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def only(name: str, content: bytes | str) -> Prepare:
    """A file, and no other input."""
    return both(gone("rows/a.parquet"), file(name, content))


def gone(name: str) -> Prepare:
    return lambda place: (place / name).unlink()


def fifo(name: str) -> Prepare:
    """A pipe that nobody writes to: who reads it waits for ever."""

    def make(place: Path) -> None:
        (place / name).unlink(missing_ok=True)
        os.mkfifo(place / name)

    return make


def link(name: str, target: str) -> Prepare:
    """A symbolic link."""

    def make(place: Path) -> None:
        (place / name).unlink(missing_ok=True)
        os.symlink(target, place / name)

    return make


def folder(name: str) -> Prepare:
    return lambda place: (place / name).mkdir(parents=True)


def both(*steps: Prepare) -> Prepare:
    def prepare(place: Path) -> None:
        for step in steps:
            step(place)

    return prepare
