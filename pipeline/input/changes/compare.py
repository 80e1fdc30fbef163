"""How the input changed since an output folder was started.

The manifest keeps what identifies each input file. An unchanged file keeps its results, whatever
its number is now and wherever it was moved to; the rows of a changed file are done again; those of
a removed file are dropped.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.humanize import count, plural
from pipeline.input.changes.content import content_of
from pipeline.input.find import name_of_file
from pipeline.input.formats.unpack import kind_now
from pipeline.input.shard import Shard

_NAMED = 5  # files of a kind that are listed by name
_FACTS = ("size", "rows", "layout", "first", "delimiter", "quotes")


@dataclass(frozen=True)
class ChangedShard:
    """A file whose content may have changed: all its current rows have to be done."""

    path: str
    what: str
    rows: int


@dataclass(frozen=True)
class InputChanges:
    """How the input differs from the manifest's. ``kept``: number now -> number then."""

    changed: tuple[ChangedShard, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    kept: Mapping[int, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.changed or self.added or self.removed or self.renumbered)

    @property
    def renumbered(self) -> bool:
        """Whether unchanged files have another place in the input's order."""
        return any(now != then for now, then in self.kept.items())

    @property
    def another_input(self) -> bool:
        """Whether no file has anything in common with the earlier ones."""
        return bool(self.added and self.removed and not self.kept and not self.changed)

    def lines(self) -> list[str]:
        """In words, one line for each kind of change."""
        changed = [f"{s.path} ({s.what}; its {plural(s.rows, 'row')})" for s in self.changed]
        lines = [
            _line("changed, and done again", changed),
            _line("new", self.added),
            _line("gone, and so are its rows", self.removed),
        ]
        if self.renumbered:
            lines.append("files that stayed as they were have another place: moved, not redone")
        return [f"input: {line}" for line in lines if line]

    def as_json(self) -> dict[str, Any]:
        return {
            "changed": [vars(s) for s in self.changed],
            "added": list(self.added),
            "removed": list(self.removed),
            "kept": len(self.kept),
        }


NO_CHANGES = InputChanges()


def _line(what: str, files: Sequence[str]) -> str:
    if not files:
        return ""
    more = f" and {count(len(files) - _NAMED)} more" if len(files) > _NAMED else ""
    return f"{what}: {', '.join(files[:_NAMED])}{more}"


def absolute(path: str) -> str:
    """A local path that is valid in any working folder; other addresses do not change."""
    return path if "://" in path else str(Path(path).resolve())


def compare(
    shards: Sequence[Shard], known: Sequence[Mapping[str, Any]]
) -> tuple[tuple[Shard, ...], InputChanges]:
    """The shards, unchanged ones under their earlier names and versions; and the differences.

    ``known``: the manifest's entries. A file's content is hashed if its size and rows are the same
    but it may have been written to. A moved file is recognized by its base name, if it is unchanged
    and no other file can be meant.
    """
    entries = list(known)
    found = _pair_up(shards, entries, cache(content_of))
    by_path = {e["path"]: e for e in entries}
    named = tuple(
        _as_known(s, entries[found[s.index]])
        if s.index in found
        else _told_apart(s, by_path.get(s.path))
        for s in shards
    )
    taken = set(found.values())
    open_entries = {e["path"]: e for n, e in enumerate(entries) if n not in taken}
    places = {e.get("at", ""): e for e in open_entries.values()}
    changed: list[ChangedShard] = []
    added: list[str] = []
    gone = dict.fromkeys(open_entries)
    for shard in shards:
        if shard.index in found:
            continue
        entry = open_entries.get(shard.path) or places.get(absolute(shard.path))
        if entry is None:
            added.append(shard.path)
            continue
        gone.pop(entry["path"], None)
        changed.append(
            ChangedShard(shard.path, _difference(entry, shard.identity), shard.used_rows)
        )
    return _drawn_apart(named, found), InputChanges(
        tuple(changed), tuple(added), tuple(gone), found
    )


def _as_known(shard: Shard, entry: Mapping[str, Any]) -> Shard:
    """The shard with its earlier path, version and kind, so its results are found; and with its
    earlier name, so its rows are drawn alike even if ``input.path`` is another list now."""
    path = entry["path"]
    return replace(
        shard,
        known_as=path if path != shard.path else "",
        version=entry["version"],
        content=shard.content or entry.get("content", ""),
        last_apart=entry.get("last_apart", False),
        kind=entry.get("kind", ""),
        name=entry.get("name") or shard.name,
    )


def _drawn_apart(shards: Sequence[Shard], known: Collection[int]) -> tuple[Shard, ...]:
    """New files never get the name of a known one: their draws would be correlated."""
    taken = {shard.name for shard in shards if shard.index in known}
    return tuple(
        replace(shard, name=name_of_file(shard.path, ()))
        if shard.name in taken and shard.index not in known
        else shard
        for shard in shards
    )


def _told_apart(shard: Shard, entry: Mapping[str, Any] | None) -> Shard:
    """Mark as different content, though all else is the same: its old modification time was set."""
    if entry is None or (entry["version"], _facts(entry)) != (
        shard.version,
        _facts(shard.identity),
    ):
        return shard
    return replace(shard, version=f"{shard.version} {shard.stamp}")


def _is_same(
    shard: Shard, entry: Mapping[str, Any], content: Callable[[Shard], str], *, moved: bool
) -> bool:
    """Whether a file is unchanged: it was not written to, or its content is the same. ``moved``:
    it was found elsewhere, which changes its stamp and may change its time."""
    if _facts(entry) != _facts(shard.identity):
        return False
    if shard.stamp and entry.get("stamp") == shard.stamp:
        return True
    if shard.stamp and entry.get("content"):
        return bool(entry["content"] == (shard.content or content(shard)))
    return bool(entry.get("version") == shard.version and (shard.version or not moved))


def _pair_up(
    shards: Sequence[Shard],
    entries: Sequence[Mapping[str, Any]],
    content: Callable[[Shard], str],
) -> dict[int, int]:
    """Number now -> number then, of the unchanged files."""
    found: dict[int, int] = {}
    by_path = {e["path"]: n for n, e in enumerate(entries)}
    for shard in shards:
        number = by_path.get(shard.path)
        if number is not None and _is_same(shard, entries[number], content, moved=False):
            found[shard.index] = number
    for key in (_place, _base_name):
        taken = set(found.values())
        wanted = {_facts(e) for n, e in enumerate(entries) if n not in taken}
        left = [s for s in shards if s.index not in found and _facts(s.identity) in wanted]
        theirs: dict[tuple[Any, ...], list[int]] = {}
        for number, entry in enumerate(entries):
            if number not in taken:
                mark = (key(entry), _facts(entry))
                for told in {entry.get("version"), entry.get("content")} - {"", None}:
                    theirs.setdefault((mark, told), []).append(number)
        ours: dict[int, list[int]] = {}  # number then -> numbers now
        for shard in left:
            mark = (key(shard.identity | {"at": absolute(shard.path)}), _facts(shard.identity))
            same = [
                number
                for number in theirs.get((mark, shard.version), ())
                if _is_same(shard, entries[number], content, moved=key is not _place)
            ] or theirs.get((mark, content(shard)), [])
            if len(same) == 1:  # otherwise it is unknown which of them it was
                ours.setdefault(same[0], []).append(shard.index)
        found |= {now[0]: then for then, now in ours.items() if len(now) == 1}
    return found


def _facts(of: Mapping[str, Any]) -> tuple[Any, ...]:
    return *(of.get(name) or 0 for name in _FACTS), kind_now(of.get("kind") or "")


def _place(of: Mapping[str, Any]) -> str:
    return str(of.get("at") or "")


def _base_name(of: Mapping[str, Any]) -> str:
    return posixpath.basename(str(of.get("at") or of["path"]))


def _difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    for name, words in (("rows", "rows"), ("size", "bytes")):
        if then.get(name) != now.get(name):
            return f"{count(int(then.get(name) or 0))} → {count(int(now.get(name) or 0))} {words}"
    if then.get("layout") != now.get("layout"):
        return "other row groups"
    return "written since"
