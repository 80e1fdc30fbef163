"""Fetches files from a hub: an interruption costs nothing, and wrong content is never kept.

huggingface_hub's own cache is read (a file in it is linked, not fetched again) but not written:
since version 2 it deletes a partial file when the process ends, and a 17 GB download must survive
that. Its ``http_get`` writes into our own ``.partial`` file instead, and the next attempt continues
at the end of that file.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pipeline.errors import RackmillError, UsageError
from pipeline.model.folder import sha256_of
from pipeline.model.store.address import HubAddress
from pipeline.model.store.hub_client import endpoint, explained, library, token
from pipeline.model.store.steps import after, gigabytes

_ASK_SECONDS = 10.0
_PARTIAL = ".partial"


@dataclass(frozen=True)
class HubFile:
    """One file of a repository. ``size`` in bytes, 0: unknown; hashes "" when not announced."""

    name: str
    size: int = 0
    sha256: str = ""
    git_sha1: str = ""


@dataclass(frozen=True)
class Repository:
    """What a hub reports about a repository at one commit."""

    name: str
    commit: str
    files: tuple[HubFile, ...]
    licence: str = ""


def is_offline() -> bool:
    """Whether the environment forbids asking the hub (``HF_HUB_OFFLINE``)."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def describe(address: HubAddress) -> Repository:
    """Ask the hub for the commit, files, sizes and hashes behind ``address``.

    Raises UsageError (unknown, or not allowed) and RackmillError (no connection).
    """
    if is_offline():
        raise UsageError(
            f"model: {address} is not on this machine, and HF_HUB_OFFLINE is set",
            "unset HF_HUB_OFFLINE to fetch it, or give a local file or folder",
        )
    api = library().HfApi(endpoint=endpoint(), token=token())
    with explained(address):
        info = api.model_info(
            address.repository,
            revision=address.revision or None,
            files_metadata=True,
            timeout=_ASK_SECONDS,
        )
    files = tuple(
        HubFile(
            name=s.rfilename,
            size=s.size or 0,
            sha256=s.lfs.sha256 if s.lfs else "",
            git_sha1="" if s.lfs else s.blob_id or "",
        )
        for s in info.siblings or ()
        if _is_inside(s.rfilename)
    )
    card = info.card_data
    return Repository(address.repository, str(info.sha), files, str(card.license) if card else "")


def fetch(
    repository: Repository,
    files: Sequence[HubFile],
    folder: Path,
    progress: Callable[[int, int], None],
) -> None:
    """Fetch ``files`` into ``folder``, without the parts of them that are there already.
    ``progress`` gets (bytes done, bytes in all).

    Raises UsageError, RackmillError; the bytes that arrived stay for the next attempt, unless they
    differ from what the hub announced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [_with_facts(repository, file) for file in files]
    total = sum(f.size for f in files)
    done = 0
    for file in files:
        target = folder / file.name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            _fetch_one(repository, file, target, after(done, total, progress))
        done += target.stat().st_size
        progress(done, total)


def missing_bytes(files: Sequence[HubFile], folder: Path) -> int:
    """How much of ``files`` is still to be fetched into ``folder``, bytes."""
    missing = 0
    for file in files:
        if not (folder / file.name).exists():
            partial = folder / (file.name + _PARTIAL)
            missing += file.size - (partial.stat().st_size if partial.exists() else 0)
    return max(0, missing)


def free_space(folder: Path) -> tuple[Path, int]:
    """The folder itself or its nearest parent that exists, and the free bytes there."""
    place = next(one for one in (folder, *folder.parents) if one.exists())
    return place, shutil.disk_usage(place).free


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raise RackmillError if the disk of ``folder`` has fewer than ``needed`` bytes free."""
    place, free = free_space(folder)
    if free < needed:
        raise RackmillError(
            f"model: {what} needs {gigabytes(needed)}, but {place} has {gigabytes(free)} free",
            "make room, or set RACKMILL_HOME to a folder on a larger disk",
        )


def _fetch_one(
    repository: Repository, file: HubFile, target: Path, progress: Callable[[int], None]
) -> None:
    partial = target.with_name(target.name + _PARTIAL)
    address = HubAddress(repository.name, file.name, repository.commit)
    if not _link_cached(repository, file, partial):
        _download(address, file, partial, progress)
    wrong = _difference(file, partial)
    if wrong:
        partial.unlink()
        raise RackmillError(
            f"model: {address} arrived damaged: {wrong}",
            "it was deleted; fetch it again (a proxy on the way may have changed it)",
        )
    os.replace(partial, target)


def _download(
    address: HubAddress, file: HubFile, partial: Path, progress: Callable[[int], None]
) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    if file.size and partial.exists() and partial.stat().st_size > file.size:
        partial.unlink()
    partial.touch()
    url = hf_hub_url(address.repository, file.name, revision=address.revision, endpoint=endpoint())
    with partial.open("r+b") as raw, explained(address):
        there = raw.seek(0, os.SEEK_END)
        progress(there)
        http_get(
            url,
            _Counted(raw, progress),
            resume_size=there,
            headers=build_hf_headers(token=token()),
            expected_size=file.size or None,
        )
        raw.flush()
        os.fsync(raw.fileno())


class _Counted:
    """A file that reports its length after every write."""

    def __init__(self, file: IO[bytes], progress: Callable[[int], None]) -> None:
        self._file = file
        self._progress = progress

    def write(self, chunk: bytes) -> int:
        written = self._file.write(chunk)
        self._progress(self._file.tell())
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _link_cached(repository: Repository, file: HubFile, target: Path) -> bool:
    """Take the file from huggingface_hub's cache, where other tools may have put it."""
    found = library().try_to_load_from_cache(repository.name, file.name, revision=repository.commit)
    if not isinstance(found, str):
        return False
    source = Path(found).resolve()
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copyfile(source, target)
    return True


def _difference(file: HubFile, path: Path) -> str:
    """How ``path`` differs from what the hub announced; "" if it does not."""
    size = path.stat().st_size
    if file.size and size != file.size:
        return f"{size} bytes instead of {file.size}"
    if file.sha256:
        found = sha256_of(path)
        return "" if found == file.sha256 else f"SHA-256 {found} instead of {file.sha256}"
    if file.git_sha1:
        digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
        digest.update(path.read_bytes())  # git itself holds only small files
        found = digest.hexdigest()
        return "" if found == file.git_sha1 else f"SHA-1 {found} instead of {file.git_sha1}"
    return ""


def _with_facts(repository: Repository, file: HubFile) -> HubFile:
    """``file`` with size and hash; if the listing has none, the hub is asked for this file."""
    if file.size and (file.sha256 or file.git_sha1):
        return file
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repository.name, file.name, revision=repository.commit, endpoint=endpoint())
    with explained(HubAddress(repository.name, file.name, repository.commit)):
        found = get_hf_file_metadata(url, token=token(), timeout=_ASK_SECONDS)
    etag = found.etag or ""
    return HubFile(
        file.name,
        found.size or 0,
        sha256=etag if len(etag) == 64 else "",
        git_sha1=etag if len(etag) == 40 else "",
    )


def _is_inside(name: str) -> bool:
    """Whether a file of that name stays inside the folder of the download."""
    return not name.startswith("/") and ".." not in name.split("/")
