"""Input files: which exist, their columns, their number of rows. No file is loaded whole."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from pipeline.errors import HalfWritten, UsageError, did_you_mean, some_of, unknown_column
from pipeline.input.find import LeftOut, find, has_moved, moves, name_of_file, stamp_of, version_of
from pipeline.input.formats.csv.delimiter import name_of
from pipeline.input.formats.names import delimiter_by_name, format_of
from pipeline.input.formats.protocol import Looked, format_module
from pipeline.input.formats.unpack import readable, unpacked_kind
from pipeline.input.output_apart import whole
from pipeline.input.schema.join import Conflict
from pipeline.input.schema.partitions import partition_fields, partition_of
from pipeline.input.shard import Shard
from pipeline.job.job import Input
from pipeline.job.registries.input_formats import INPUT_FORMATS
from pipeline.storage.transient_errors import PLAN_SECONDS, reading

_CASTS = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
}
_NAMED = 5  # files that are listed by name
_MOST_ROWS = 10**10  # a plan takes memory for every few thousand


@dataclass(frozen=True)
class InputFiles:
    """All shards of a job, in input order, and their common schema, without the columns of
    ``conflicts``, whose types cannot be joined. ``notes``: how it differs from the files' schemas.
    ``left``: incomplete files, for the next run."""

    shards: tuple[Shard, ...]
    schema: pa.Schema
    conflicts: tuple[Conflict, ...] = ()
    notes: tuple[str, ...] = ()
    left: tuple[LeftOut, ...] = ()

    @property
    def rows(self) -> int:
        return sum(shard.used_rows for shard in self.shards)

    @property
    def waiting(self) -> list[str]:
        """``left`` as messages, one line for each."""
        return [f"input: left for the next run: {one}" for one in self.left]

    @property
    def fingerprint(self) -> str:
        """Identifies the rows: paths, sizes and versions of the files, in order."""
        text = "\n".join(str(sorted(s.identity.items())) for s in self.shards)
        return hashlib.sha256(text.encode()).hexdigest()


def discover(source: Input, leave: Collection[str] = ()) -> InputFiles:
    """Find and scan the input files; reads only footers (Parquet) or line ends.

    ``leave``: files that are known to be incomplete. Raises UsageError: no such path, nothing
    matched, unreadable file; HalfWritten if no file is complete.
    """
    patterns = (source.path,) if isinstance(source.path, str) else source.path
    entries: dict[str, Any] = {}  # a file that two patterns match is read once
    spelled: dict[str, str] = {}  # its place, in the spelling of the first of them
    partitions: dict[str, dict[str, str | None]] = {}
    lost: list[str] = []
    left: list[LeftOut] = []
    alone: set[str] = set()  # named directly: they must be complete
    for pattern in patterns:
        any_name = source.format is not None
        hits = reading(pattern, partial(find, pattern, any_name=any_name), PLAN_SECONDS)
        lost += hits.lost
        left += hits.half
        files = [(spelled.setdefault(whole(path), path), info) for path, info in hits.files]
        alone |= {path for path, _ in files} if hits.single else set()
        for path, info in files:
            entries[path] = info
            if source.partitioning != "none":
                below = pattern if source.partitioning == "auto" else None
                partitions.setdefault(path, partition_of(path, below))
    if not entries:
        raise _not_whole(left)
    found = list(entries.items())
    formats = [source.format or format_of(path) for path, _ in found]
    if len(set(formats)) > 1:
        firsts = dict(zip(reversed(formats), (path for path, _ in reversed(found)), strict=True))
        raise UsageError(
            "input.path matches files of several formats: "
            + ", ".join(f"{name} ({path})" for name, path in sorted(firsts.items())),
            "give one format at a time: narrow the pattern, or set input.format",
        )

    def look(file: tuple[str, Any], fmt: str) -> Looked | LeftOut:
        path, info = file
        try:
            if path in leave:
                raise moves(path)
            return _look(path, info, fmt, source)
        except HalfWritten as e:
            if path in alone:
                raise
            return LeftOut(path, e.message.removeprefix(path).lstrip(": "))

    _check_keys(source, formats[0])
    with ThreadPoolExecutor(8) as pool:
        looked = list(pool.map(look, found, formats))
    left += [one for one in looked if isinstance(one, LeftOut)]
    there = [one for one in looked if isinstance(one, Looked)]
    if not there:
        raise _not_whole(left)
    rows = {one.path: one.scan.rows for one in there}
    if sum(rows.values()) > _MOST_ROWS:
        most = max(rows, key=rows.__getitem__)
        raise UsageError(
            f"the input claims to have {sum(rows.values()):,} rows, {rows[most]:,} of them in "
            f"{most}",
            f"{_MOST_ROWS:,} are the most for one job: give it in parts",
        )
    # an empty text file has no header to compare
    told = [one for one in there if one.scan.rows or one.scan.schema.names]
    joined = format_module(formats[0]).common_schema(told or there[:1])
    schema, partitions = _with_partitions(joined.schema, partitions)
    schema = _cast(source, schema, joined.conflicts)
    _check_skipped(source, rows)
    shards = tuple(
        Shard(
            index=index,
            path=one.path,
            format=formats[0],
            size=_size(entries[one.path]),
            version=version_of(entries[one.path]),
            rows=one.scan.rows,
            boundaries=one.scan.boundaries,
            offsets=one.scan.offsets,
            layout=_layout(one.scan.boundaries),
            first=source.skip_rows.get(one.path, 0),
            partition=tuple(partitions.get(one.path, {}).items()),
            kind=one.kind,
            stamp=stamp_of(entries[one.path]),
            delimiter=one.scan.delimiter,
            quotes=one.scan.quotes,
            name=name_of_file(one.path, patterns),
        )
        for index, one in enumerate(there)
    )
    conflicts = tuple(c for c in joined.conflicts if c.column not in source.cast)
    links = [f"left out, a link that leads nowhere: {path}" for path in lost]
    notes = (*joined.notes, *links, *_delimiter_notes(source, shards))
    return InputFiles(shards, schema, conflicts, notes, tuple(left))


def _delimiter_notes(source: Input, shards: Sequence[Shard]) -> list[str]:
    """The delimiters of files, where neither the job nor a file's name sets them."""
    if source.delimiter != "auto":
        return []
    guessed = [s for s in shards if s.delimiter and not delimiter_by_name(s.path)]
    which = sorted({s.delimiter for s in guessed})
    files = {d: [s.path for s in guessed if s.delimiter == d] for d in which}
    return [
        f"{some_of(files[d], _NAMED)}: {name_of(d)} separates the cells, by the first records "
        "(input.delimiter)"
        for d in which
    ]


def _check_keys(source: Input, file_format: str) -> None:
    """Raise UsageError for keys that only apply to files of another format."""
    given = {
        "delimiter": source.delimiter != "auto",
        "quotes": source.quotes is not None,
        "encoding": source.encoding is not None,
    }
    for key, is_given in given.items():
        meant = [one for one in INPUT_FORMATS if key in one.keys]
        if is_given and file_format not in [one.name for one in meant]:
            titles = " and ".join(sorted(one.title for one in meant))
            raise UsageError(f"input.{key} is for {titles}, and the input is {file_format}")


def check_whole(files: InputFiles) -> None:
    """Raise HalfWritten for files that a run would leave out though their names are ordinary: the
    user may expect them to be complete."""
    cut = [one for one in files.left if not one.named]
    if cut:
        raise _not_whole(cut, "a run does the others, and leaves it for the next one")


def _not_whole(left: Sequence[LeftOut], *hints: str) -> HalfWritten:
    return HalfWritten(
        f"not whole: {some_of(list(map(str, left)), _NAMED)}",
        *hints,
        "it is still being written, or was cut off: wait until it is whole, write it again, or "
        "leave it out",
    )


def moved_since(shards: Sequence[Shard]) -> list[str]:
    """The files that were written to since they were scanned; only those on a local disk are
    checked, since an object is replaced as a whole."""
    return [s.path for s in shards if has_moved(s.path, s.size, s.stamp)]


def _check_skipped(source: Input, rows: Mapping[str, int]) -> None:
    """Raise UsageError if a file has fewer rows than are to be skipped, or does not exist."""
    for path, number in source.skip_rows.items():
        if path not in rows:
            said = f"input.skip_rows: {path} is not one of the input's files"
            raise UsageError(said, *did_you_mean(path, rows))
        if number > rows[path]:
            raise UsageError(f"input.skip_rows: {path} has {rows[path]:,} rows, not {number:,}")


def _look(path: str, info: Mapping[str, Any], file_format: str, source: Input) -> Looked:
    """The result of a file's scan. Raises UsageError; HalfWritten."""
    size, stamp = _size(info), stamp_of(info)

    def scan() -> Looked:
        kind = unpacked_kind(path, file_format, source.encoding)
        local = readable(path, kind, size, stamp or version_of(info))
        try:
            return Looked(path, kind, local, format_module(file_format).scan(path, local, source))
        except UsageError as e:
            if local == path:
                raise
            raise type(e)(e.message.replace(local, path), *e.hints) from None

    try:
        looked = reading(path, scan, PLAN_SECONDS)
    except UsageError:
        if has_moved(path, size, stamp):  # whatever is wrong with it, it is incomplete
            raise moves(path) from None
        raise
    if has_moved(path, size, stamp):
        raise moves(path)
    return looked


def _size(info: Mapping[str, Any]) -> int:
    return int(info.get("size") or 0)


def _layout(boundaries: Sequence[int]) -> str:
    text = ",".join(map(str, boundaries))
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else ""


def _with_partitions(
    schema: pa.Schema, partitions: Mapping[str, Mapping[str, str | None]]
) -> tuple[pa.Schema, dict[str, dict[str, str | None]]]:
    """The schema with the columns given by folder names; a column of the files takes precedence."""
    used = {
        path: {name: value for name, value in one.items() if name not in schema.names}
        for path, one in partitions.items()
    }
    for field in partition_fields(used.values()):
        schema = schema.append(field)
    return schema, used


def _cast(source: Input, schema: pa.Schema, conflicts: Sequence[Conflict]) -> pa.Schema:
    """The schema with the types set by ``input.cast``. Raises UsageError."""
    known = [*schema.names, *(conflict.column for conflict in conflicts)]
    for name, kind in source.cast.items():
        if name not in known:
            raise unknown_column(f"input.cast names {name!r}", name, known)
        field = pa.field(name, _CASTS[kind])
        place = schema.get_field_index(name)
        schema = schema.append(field) if place < 0 else schema.set(place, field)
    return schema
