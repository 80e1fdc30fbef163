"""What a schedule's next run has to do: files, or ends of files, that no earlier run has done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from pipeline.humanize import plural
from pipeline.input.changes.compare import absolute, compare
from pipeline.input.find import LeftOut
from pipeline.input.formats.base import Mark
from pipeline.input.formats.protocol import rows_still_there
from pipeline.input.shard import Shard

_NAMED = 5  # files of a kind that are listed by name


@dataclass(frozen=True)
class Covered:
    """An input file as a run of the schedule did it: all of its ``rows`` have results.

    ``content``, ``stamp``: see ``Shard``; ``mark`` and what follows: its ``Mark``.
    """

    path: str
    at: str
    format: str
    size: int
    version: str
    rows: int
    layout: str = ""
    kind: str = ""
    delimiter: str = ""
    quotes: str = ""
    stamp: str = ""
    content: str = ""
    mark: str = ""
    mark_size: int = 0
    tail: str = ""
    tail_size: int = 0

    @classmethod
    def of(cls, shard: Shard, mark: Mark) -> Covered:
        alike = {f.name: getattr(shard, f.name) for f in fields(cls) if hasattr(shard, f.name)}
        return cls(
            **alike,
            at=absolute(shard.path),
            mark=mark.whole,
            mark_size=mark.size,
            tail=mark.tail,
            tail_size=mark.tail_size,
        )

    @property
    def marked(self) -> Mark:
        size = self.mark_size if self.mark_size or self.tail else self.size  # of earlier versions
        return Mark(self.mark, size, self.tail, self.tail_size)


@dataclass(frozen=True)
class Increment:
    """``shards``: to be done; grown files from their first new row on. ``changed``: those among
    them whose earlier results are replaced; ``went_on``: for grown files whose last line had no
    end: the row from which results are replaced. ``gone``: done before, but no input any more:
    their results stay. ``left``: files that are not complete yet."""

    shards: tuple[Shard, ...]
    new: tuple[str, ...] = ()
    grown: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    went_on: Mapping[str, int] = field(default_factory=dict)
    left: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return sum(shard.used_rows for shard in self.shards)

    def lines(self) -> list[str]:
        """In words, one line for each kind of file."""
        kinds = (
            (self.new, "new"),
            (self.grown, "longer than before: only what was added is done"),
            (self.changed, "changed: done again, in place of what was there"),
            (self.gone, "gone: what was made of them stays"),
            (self.left, "left for the next run"),
        )
        return [f"input: {_named(files)} {words}" for files, words in kinds if files]

    def as_json(self) -> dict[str, Any]:
        names = ("new", "grown", "changed", "gone", "left")
        return {"rows": self.rows} | {name: list(getattr(self, name)) for name in names}


def increment(
    shards: Sequence[Shard],
    covered: Sequence[Covered],
    *,
    left: Sequence[LeftOut] = (),
    full: bool = False,
) -> Increment:
    """``covered``: by earlier runs, each file once, in its state then. ``left``: files that are not
    complete yet. ``full``: everything is done again. Raises OSError, UsageError."""
    waiting = tuple(map(str, left))
    if full:
        return Increment(tuple(shards), new=tuple(s.path for s in shards), left=waiting)
    _, changes = compare(shards, [vars(one) for one in covered])
    by_path: Mapping[str, Covered] = {c.path: c for c in covered} | {c.at: c for c in covered}
    todo: list[Shard] = []
    grown: list[str] = []
    changed: list[str] = []
    went_on: dict[str, int] = {}
    again = {s.path for s in changes.changed}
    for shard in shards:
        if shard.index in changes.kept:
            continue
        if shard.path not in again:
            todo.append(shard)
            continue
        before = by_path.get(shard.path) or by_path[absolute(shard.path)]
        grew = shard.rows >= before.rows and shard.size > before.size
        # the setting for quotes is only known once a file has some
        alike = shard.delimiter == before.delimiter and before.quotes in (shard.quotes, "")
        same = None
        if grew and alike:
            same = rows_still_there(shard, before.rows, before.marked, before.quotes)
        if same is None:
            todo.append(shard)
            changed.append(shard.path)
            continue
        if same < shard.rows:  # otherwise only the end of a line, or an empty line, was added
            todo.append(replace(shard, first=same))
            grown.append(shard.path)
        if same < before.rows:
            went_on[shard.path] = same
    waits = {one.path for one in left} | {absolute(one.path) for one in left}
    gone = [p for p in changes.removed if p not in waits and absolute(p) not in waits]
    return Increment(
        tuple(todo),
        tuple(changes.added),
        tuple(grown),
        tuple(changed),
        tuple(gone),
        went_on,
        waiting,
    )


def _named(files: Sequence[str]) -> str:
    if len(files) > _NAMED:
        return plural(len(files), "file")
    return ", ".join(files)
