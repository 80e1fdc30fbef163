"""Which files a path, folder or glob names; incomplete ones, judged by their names, separately."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipeline.errors import HalfWritten, UsageError, did_you_mean
from pipeline.input.formats.names import is_data
from pipeline.input.schema.partitions import fixed_part
from pipeline.storage.transient_errors import passes

# how browsers, wget, rsync, Flink, editors and careful writers name incomplete files
_HALF = re.compile(
    r"(\.(part|partial|filepart|tmp|temp|crdownload|download|opdownload|inprogress|incomplete|swp)"
    r"|\.inprogress\.[^.]+|~)$",
    re.IGNORECASE,
)
_HALF_FOLDER = "_temporary"  # written by Hadoop and Spark


@dataclass(frozen=True)
class LeftOut:
    """A file that may be complete for the next run. ``named``: its name says that it is not yet."""

    path: str
    why: str
    named: bool = False

    def __str__(self) -> str:
        return f"{self.path} ({self.why})"


@dataclass
class Found:
    """(address, file info) sorted by path; broken links; incomplete files. ``single``: the path is
    that of a file, not a folder or glob."""

    files: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    half: list[LeftOut] = field(default_factory=list)
    single: bool = False


def find(pattern: str, *, any_name: bool) -> Found:
    """The files behind a path, folder or glob: at least one, possibly all incomplete. ``any_name``:
    a file that is named directly is used, whatever its name says. Raises UsageError, and transient
    OSErrors."""
    try:
        fs, path = _file_system(pattern)
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
        folder = fs.isdir(path)
    except OSError as e:
        if passes(e):
            raise  # the caller waits and retries
        raise UsageError(f"input.path {pattern}: {e}") from None
    except (ValueError, NotImplementedError, re.error) as e:  # invalid patterns
        raise UsageError(f"input.path {pattern}: {e}", "write it with *, ?, [abc] or **") from None
    below = str(path) if folder else None
    half = [] if any_name and path in infos else [n for n in infos if _says_half(n, below)]
    if path in half:
        raise HalfWritten(
            f"{pattern}: by its name it is still being written",
            "wait until it has its own name; if it is whole, rename it",
        )
    files = {n: i for n, i in infos.items() if not folder or _is_data_file(n, str(path))}
    files = {n: i for n, i in files.items() if n not in half}
    chosen = {n: i for n, i in files.items() if i["type"] == "file"}
    found = Found(single=path in infos)
    if local:
        chosen |= {n: f for n, i in files.items() if (f := _behind_link(n, i)) is not None}
        lost = [n for n in files if os.path.islink(n) and not os.path.exists(n)]
        found.lost = [_as_given(n, pattern) for n in lost]
    if not chosen and path in infos:
        raise UsageError(
            f"input.path: {pattern} is not a file but a pipe, a socket or a device",
            "write what comes out of it into a file",
        )

    def address(name: str) -> str:
        return _as_given(name, pattern) if local else str(fs.unstrip_protocol(name))

    found.half = [LeftOut(address(name), "by its name", named=True) for name in half]
    if not chosen and not half:
        kind = "no file matches the pattern" if is_glob else "no Parquet, JSONL or CSV file in"
        raise UsageError(f"input.path: {kind} {pattern}")
    found.files = sorted((address(name), info) for name, info in chosen.items())
    return found


def _file_system(path: str) -> tuple[Any, str]:
    """The file system, and the path in it. Local paths are literal, including "::"."""
    if "://" in path:
        fs, name = fsspec.core.url_to_fs(path)
        return fs, str(name)
    return LocalFileSystem(), str(LocalFileSystem._strip_protocol(path))


def _says_half(name: str, folder: str | None) -> bool:
    """Whether a name below the ``folder`` (None: a whole path given by the user) is typical of
    incomplete files."""
    parts = name[len(folder or "") :].strip("/").split("/")
    hidden = next((p for p in parts if p.startswith((".", "_"))), None)
    if folder is not None and hidden is not None:
        return hidden == _HALF_FOLDER and is_data(parts[-1])
    bare, number = _HALF.subn("", parts[-1])
    return bool(number) and (is_data(bare) or "." not in bare)


def _is_data_file(name: str, folder: str) -> bool:
    parts = name[len(folder) :].strip("/").split("/")
    return not any(p.startswith(("_", ".")) for p in parts) and is_data(name)


def _behind_link(name: str, info: dict[str, Any]) -> dict[str, Any] | None:
    """The file info of a symbolic link's target; None if there is no such file."""
    if not info.get("islink") or not os.path.isfile(name):
        return None
    facts = os.stat(name)
    times = {"mtime": facts.st_mtime, "created": facts.st_ctime}
    return info | {"type": "file", "size": facts.st_size} | times


def _as_given(name: str, pattern: str) -> str:
    """A local file's name relative to the working folder, as in the job file, where possible."""
    return name if os.path.isabs(pattern) or "://" in pattern else os.path.relpath(name)


def name_of_file(path: str, patterns: Sequence[str]) -> str:
    """A file's name within the input: the number of the ``input.path`` entry (from 0) that finds
    it, and its path below the fixed part of that entry. So it stays the same when all data moves,
    and when a folder is reached by a link."""
    path = _plain(path)
    for number, pattern in enumerate(patterns):
        fixed = "/".join(fixed_part(_plain(pattern)))
        if path == fixed:
            return f"{number}/{path.rpartition('/')[2]}"
        if path.startswith(f"{fixed}/"):
            return f"{number}/{path.removeprefix(f'{fixed}/')}"
    return path


def _plain(path: str) -> str:
    path = path.removeprefix("file://")
    return path if "://" in path else os.path.abspath(path)  # links are not followed


def _nearest(fs: Any, path: str) -> list[str]:
    parent, _, name = path.rpartition("/")
    try:
        names = [str(e).rsplit("/", 1)[-1] for e in fs.ls(parent, detail=False)]
    except (OSError, FileNotFoundError):
        return []
    return did_you_mean(name, names)


def version_of(info: Mapping[str, Any]) -> str:
    """A value that changes when a file does, from its file info."""
    for key in ("ETag", "etag", "mtime", "LastModified", "last_modified", "created"):
        if info.get(key) not in (None, ""):  # 0 is a valid time, as in reproducible archives
            return str(info[key])
    return ""


def stamp_of(info: Mapping[str, Any]) -> str:
    """A value that changes with every write to a file, even of the same bytes, and with a time set
    by hand; "" if the version identifies the content, as an ETag does."""
    if info.get("ETag") or info.get("etag"):
        return ""
    return f"{version_of(info)} {info.get('created', '')}"


def facts_now(path: str) -> tuple[int, str, str]:
    """Size (bytes), version and stamp of a file. Raises OSError, ValueError, ImportError."""
    fs, name = _file_system(path)
    info = fs.info(name)
    if "://" not in path:
        info = _behind_link(name, info) or info
    return int(info.get("size") or 0), version_of(info), stamp_of(info)


def has_moved(path: str, size: int, stamp: str) -> bool:
    """Whether a file was written to since it had that size and stamp. Only local files are checked:
    an object appears whole."""
    if "://" in path:
        return False
    try:
        now = os.stat(path)
    except OSError:
        return True
    return (now.st_size, f"{now.st_mtime} {now.st_ctime}") != (size, stamp)


def moves(path: str) -> HalfWritten:
    return HalfWritten(
        f"{path}: it is being written, and changed while it was looked at", "wait until it is whole"
    )
