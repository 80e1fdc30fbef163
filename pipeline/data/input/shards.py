"""Input files: which there are, what columns they have, how many rows. Nothing is loaded whole."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import fsspec
import pyarrow as pa

from pipeline.data.input import csv_format, jsonl_format, parquet_format
from pipeline.data.input.formats import ScannedFile
from pipeline.data.input.join_schemas import Conflict, Joined, join
from pipeline.data.input.partitions import partition_fields, partition_of
from pipeline.data.input.unpack import format_of, is_data, kind_of, readable
from pipeline.data.patience import passes, reading
from pipeline.errors import UsageError, did_you_mean, some_of
from pipeline.spec.job import Input

_SCANNERS = {
    "parquet": parquet_format.scan,
    "jsonl": jsonl_format.scan,
    "csv": csv_format.scan,
}
_CASTS = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
}
_PATIENCE_SECONDS = 10.0  # while someone waits for the plan
_MOST_ROWS = 10**10  # a plan takes memory for every few thousand


@dataclass(frozen=True)
class Shard:
    """One input file. ``size`` in bytes; ``version`` changes when the content may have.

    Of its ``rows`` those before ``first`` are left out.
    """

    index: int
    path: str
    format: str
    size: int
    version: str
    rows: int
    boundaries: tuple[int, ...] = ()  # rows at which a row group starts
    offsets: tuple[int, ...] = ()  # text: byte offset of every ``formats.STRIDE``-th row
    layout: str = ""  # Parquet: identifies how the rows are grouped
    known_as: str = ""  # the path under which the output folder knows it, if another one
    first: int = 0
    partition: tuple[tuple[str, str | None], ...] = ()  # columns in the names of its folders
    kind: str = ""  # how it is written out before it is read (see ``unpack``)

    @property
    def readable(self) -> str:
        """The path under which this machine can read it. Raises OSError, UsageError."""
        return readable(self.path, self.kind, self.size, self.version)

    @property
    def used_rows(self) -> int:
        """From ``first`` on."""
        return self.rows - self.first

    @property
    def identity(self) -> dict[str, Any]:
        """What of the shard decides the job's rows."""
        facts = {"size": self.size, "version": self.version, "rows": self.rows}
        layout = {"layout": self.layout} if self.layout else {}
        first = {"first": self.first} if self.first else {}
        partition = {"partition": dict(self.partition)} if self.partition else {}
        kind = {"kind": self.kind} if self.kind else {}
        return {"path": self.known_as or self.path, **facts, **layout, **first, **partition, **kind}


@dataclass(frozen=True)
class InputFiles:
    """All shards of a job, in input order, and the one schema they share: without the columns of
    ``conflicts``, whose types cannot be joined. ``notes``: how it differs from that of files."""

    shards: tuple[Shard, ...]
    schema: pa.Schema
    conflicts: tuple[Conflict, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return sum(shard.used_rows for shard in self.shards)

    @property
    def fingerprint(self) -> str:
        """Identifies the rows: paths, sizes and versions of the files, in order."""
        text = "\n".join(str(sorted(s.identity.items())) for s in self.shards)
        return hashlib.sha256(text.encode()).hexdigest()


def discover(source: Input) -> InputFiles:
    """Find and look into the input files, reading only footers (Parquet) or line ends.

    Raises UsageError: no such path, nothing matched, unreadable or cut-off file.
    """
    patterns = (source.path,) if isinstance(source.path, str) else source.path
    entries: dict[str, Any] = {}  # a file that two patterns match is read once
    partitions: dict[str, dict[str, str | None]] = {}
    lost: list[str] = []
    for pattern in patterns:
        files, leading_nowhere = reading(pattern, partial(_find, pattern), _PATIENCE_SECONDS)
        lost += leading_nowhere
        for path, info in files:
            entries[path] = info
            if source.partitioning != "none":
                below = pattern if source.partitioning == "auto" else None
                partitions.setdefault(path, partition_of(path, below))
    found = list(entries.items())
    formats = [source.format or format_of(path) for path, _ in found]
    if len(set(formats)) > 1:
        firsts = dict(zip(reversed(formats), (path for path, _ in reversed(found)), strict=True))
        raise UsageError(
            "input.path matches files of several formats: "
            + ", ".join(f"{name} ({path})" for name, path in sorted(firsts.items())),
            "give one format at a time: narrow the pattern, or set input.format",
        )
    with ThreadPoolExecutor(8) as pool:
        looked = list(pool.map(lambda f, fmt: _look(f[0], f[1], fmt), found, formats))
    kinds, scanned = [kind for kind, _ in looked], [scan for _, scan in looked]
    rows = sum(s.rows for s in scanned)
    if rows > _MOST_ROWS:
        most = max(zip(found, scanned, strict=True), key=lambda pair: pair[1].rows)
        raise UsageError(
            f"the input claims to have {rows:,} rows, {most[1].rows:,} of them in {most[0][0]}",
            f"{_MOST_ROWS:,} are the most for one job: give it in parts",
        )
    # an empty text file has no header to agree or disagree with
    told = [(f[0], s) for f, s in zip(found, scanned, strict=True) if s.rows or s.schema.names]
    told = told or [(found[0][0], scanned[0])]
    joined = _common_schema(told, formats[0])
    schema, partitions = _with_partitions(joined.schema, partitions)
    schema = _cast(source, schema, joined.conflicts)
    skipped = _skipped(source, found, scanned)
    shards = tuple(
        Shard(
            index=index,
            path=path,
            format=fmt,
            size=int(info.get("size") or 0),
            version=version_of(info),
            rows=scan.rows,
            boundaries=scan.boundaries,
            offsets=scan.offsets,
            layout=_layout(scan.boundaries),
            first=skipped.get(path, 0),
            partition=tuple(partitions.get(path, {}).items()),
            kind=kind,
        )
        for index, ((path, info), fmt, scan, kind) in enumerate(
            zip(found, formats, scanned, kinds, strict=True)
        )
    )
    conflicts = tuple(c for c in joined.conflicts if c.column not in source.cast)
    links = [f"left out, a link that leads nowhere: {path}" for path in lost]
    return InputFiles(shards, schema, conflicts, (*joined.notes, *links))


def _skipped(
    source: Input, found: Sequence[tuple[str, Any]], scanned: Sequence[ScannedFile]
) -> dict[str, int]:
    """By path. Raises UsageError where there are not so many rows, or is no such file."""
    rows = {path: scan.rows for (path, _), scan in zip(found, scanned, strict=True)}
    for path, number in source.skip_rows.items():
        if path not in rows:
            near = did_you_mean(path, list(rows))
            raise UsageError(
                f"input.skip_rows: {path} is none of the input's files",
                *([f"did you mean {near}?"] if near else []),
            )
        if number > rows[path]:
            raise UsageError(f"input.skip_rows: {path} has {rows[path]:,} rows, not {number:,}")
    return dict(source.skip_rows)


def _look(path: str, info: Mapping[str, Any], file_format: str) -> tuple[str, ScannedFile]:
    """How the file has to be written out before it is read, and what is in it."""

    def scan() -> tuple[str, ScannedFile]:
        kind = kind_of(path, file_format)
        local = readable(path, kind, int(info.get("size") or 0), version_of(info))
        try:
            return kind, _SCANNERS[file_format](local)
        except UsageError as e:
            if local == path:
                raise
            raise UsageError(e.message.replace(local, path), *e.hints) from None

    return reading(path, scan, _PATIENCE_SECONDS)


def _find(pattern: str) -> tuple[list[tuple[str, dict[str, Any]]], list[str]]:
    """(address, file info) of the files behind a path, folder or glob, sorted by path; and links
    that lead to none."""
    try:
        fs, path = fsspec.core.url_to_fs(pattern)
    except (ValueError, ImportError) as e:
        raise UsageError(f"input.path {pattern}: {e}") from None
    local = "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))
    try:
        is_glob = any(c in pattern for c in "*?[") and not fs.exists(path)
        if is_glob:
            infos = fs.glob(path, detail=True)
        elif fs.isdir(path):
            infos = fs.find(path, detail=True)
        elif fs.exists(path):
            infos = {path: fs.info(path)}
        else:
            raise UsageError(f"input.path: no such file or folder: {pattern}", *_nearest(fs, path))
    except OSError as e:
        if passes(e):
            raise  # whoever reads waits
        raise UsageError(f"input.path {pattern}: {e}") from None
    except (ValueError, NotImplementedError, re.error) as e:  # patterns that are none
        raise UsageError(f"input.path {pattern}: {e}", "write it with *, ?, [abc] or **") from None
    folder = fs.isdir(path)
    files = {n: i for n, i in infos.items() if not folder or _is_data_file(n, str(path))}
    chosen = {n: i for n, i in files.items() if i["type"] == "file"}
    lost = []
    if local:
        chosen |= {n: f for n, i in files.items() if (f := _behind_link(n, i)) is not None}
        lost = [_as_given(n, pattern) for n in files if os.path.islink(n) and not os.path.exists(n)]
    if not chosen and path in infos:
        raise UsageError(
            f"input.path: {pattern} is not a file but a pipe, a socket or a device",
            "write what comes out of it into a file",
        )
    if not chosen:
        kind = "no file matches the pattern" if is_glob else "no Parquet, JSONL or CSV file in"
        raise UsageError(f"input.path: {kind} {pattern}")
    if local:
        return sorted((_as_given(name, pattern), info) for name, info in chosen.items()), lost
    return sorted((fs.unstrip_protocol(name), info) for name, info in chosen.items()), []


def _behind_link(name: str, info: dict[str, Any]) -> dict[str, Any] | None:
    """The facts of the file that a symbolic link leads to; None for anything else."""
    if not info.get("islink") or not os.path.isfile(name):
        return None
    facts = os.stat(name)
    return info | {"type": "file", "size": facts.st_size, "mtime": facts.st_mtime}


def _as_given(name: str, pattern: str) -> str:
    """A local file named relative to the working folder, as the job file does, where it can be."""
    return name if os.path.isabs(pattern) or "://" in pattern else os.path.relpath(name)


def _is_data_file(name: str, folder: str) -> bool:
    parts = name[len(folder) :].strip("/").split("/")
    return not any(p.startswith(("_", ".")) for p in parts) and is_data(name)


def _nearest(fs: Any, path: str) -> list[str]:
    parent, _, name = path.rpartition("/")
    try:
        names = [str(e).rsplit("/", 1)[-1] for e in fs.ls(parent, detail=False)]
    except (OSError, FileNotFoundError):
        return []
    near = did_you_mean(name, names)
    return [f"did you mean {near}?"] if near else []


def version_of(info: Mapping[str, Any]) -> str:
    """What changes when a file does, of what its file system says of it."""
    for key in ("ETag", "etag", "mtime", "LastModified", "last_modified", "created"):
        if info.get(key):
            return str(info[key])
    return ""


def _layout(boundaries: Sequence[int]) -> str:
    text = ",".join(map(str, boundaries))
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else ""


def _common_schema(told: Sequence[tuple[str, ScannedFile]], fmt: str) -> Joined:
    """Text formats have no schema of their own: a column of several kinds is text there."""
    if fmt == "jsonl":
        return Joined(jsonl_format.common_schema([(path, scan.seen) for path, scan in told]))
    schemas = [(path, scan.schema) for path, scan in told]
    return join(schemas if fmt == "parquet" else _text_where_they_differ(schemas))


def _text_where_they_differ(schemas: list[tuple[str, pa.Schema]]) -> list[tuple[str, pa.Schema]]:
    """Of CSV files: what is 1 in one and 1.5 in another is neither 1.0 nor any number."""
    kinds: dict[str, set[pa.DataType]] = {}
    for _, schema in schemas:
        for field in schema:
            kinds.setdefault(field.name, set()).add(field.type)
    for of in kinds.values():
        of.discard(pa.null())
    text = {name for name, of in kinds.items() if len(of) != 1}
    return [
        (path, pa.schema([f.with_type(pa.string()) if f.name in text else f for f in schema]))
        for path, schema in schemas
    ]


def _with_partitions(
    schema: pa.Schema, partitions: Mapping[str, Mapping[str, str | None]]
) -> tuple[pa.Schema, dict[str, dict[str, str | None]]]:
    """The schema with the columns in folders' names; a column of the files stands before one."""
    used = {
        path: {name: value for name, value in one.items() if name not in schema.names}
        for path, one in partitions.items()
    }
    for field in partition_fields(used.values()):
        schema = schema.append(field)
    return schema, used


def _cast(source: Input, schema: pa.Schema, conflicts: Sequence[Conflict]) -> pa.Schema:
    """The schema with the types that ``input.cast`` names. Raises UsageError."""
    known = [*schema.names, *(conflict.column for conflict in conflicts)]
    for name, kind in source.cast.items():
        if name not in known:
            near = did_you_mean(name, known)
            raise UsageError(
                f"input.cast names {name!r}, but the input has no such column",
                f"columns: {some_of(known)}",
                *([f"did you mean {near}?"] if near else []),
            )
        field = pa.field(name, _CASTS[kind])
        place = schema.get_field_index(name)
        schema = schema.append(field) if place < 0 else schema.set(place, field)
    return schema
