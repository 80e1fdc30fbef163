"""What a schedule's next run has to do: the files, or ends of files, that no earlier run did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.data.input.changes import absolute, compare
from pipeline.data.input.shards import Shard
from pipeline.units import plural

_NAMED = 5  # files of a kind that are named one by one


@dataclass(frozen=True)
class Covered:
    """An input file as a run of the schedule did it: all of its ``rows`` have results.

    ``mark``: see ``data.grown``.
    """

    path: str
    at: str
    format: str
    size: int
    version: str
    rows: int
    layout: str = ""
    mark: str = ""

    @classmethod
    def of(cls, shard: Shard, mark: str) -> Covered:
        facts = {name: value for name, value in shard.identity.items() if name != "first"}
        return cls(at=absolute(shard.path), format=shard.format, mark=mark, **facts)


@dataclass(frozen=True)
class Increment:
    """``shards``: to be done, those that grew from their first new row on. ``changed``: among them
    those whose earlier results are replaced. ``gone``: done once, and no input any more: their
    results stay."""

    shards: tuple[Shard, ...]
    new: tuple[str, ...] = ()
    grown: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()

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
        )
        return [f"input: {_named(files)} {words}" for files, words in kinds if files]

    def as_json(self) -> dict[str, Any]:
        names = ("new", "grown", "changed", "gone")
        return {"rows": self.rows} | {name: list(getattr(self, name)) for name in names}


def increment(
    shards: Sequence[Shard],
    covered: Sequence[Covered],
    begins_with: Callable[[Shard, Covered], bool],
    *,
    full: bool = False,
) -> Increment:
    """``covered``: by earlier runs, each file once, as it was then. ``begins_with``: whether a
    file's first rows are still those. ``full``: all is to be done again."""
    if full:
        return Increment(tuple(shards), new=tuple(s.path for s in shards))
    _, changes = compare(shards, [vars(one) for one in covered])
    by_path: Mapping[str, Covered] = {c.path: c for c in covered} | {c.at: c for c in covered}
    todo: list[Shard] = []
    grown: list[str] = []
    changed: list[str] = []
    again = {s.path for s in changes.changed}
    for shard in shards:
        if shard.index in changes.kept:
            continue
        if shard.path not in again:
            todo.append(shard)
            continue
        before = by_path.get(shard.path) or by_path[absolute(shard.path)]
        if shard.rows > before.rows and shard.size > before.size and begins_with(shard, before):
            todo.append(replace(shard, first=before.rows))
            grown.append(shard.path)
        elif shard.rows == before.rows and shard.size == before.size and begins_with(shard, before):
            continue  # touched, or written again with the same content
        else:
            todo.append(shard)
            changed.append(shard.path)
    return Increment(
        tuple(todo), tuple(changes.added), tuple(grown), tuple(changed), tuple(changes.removed)
    )


def _named(files: Sequence[str]) -> str:
    if len(files) > _NAMED:
        return plural(len(files), "file")
    return ", ".join(files)
