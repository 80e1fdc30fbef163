"""The content of the store: ``$RACKMILL_HOME/models``, one folder per model.

Each folder describes itself in its ``rackmill.json``; there is no index that could be wrong. One of
its facts is ``addresses``: every hub address under which the model was requested, with the time.
By these, later requests find the model without asking the hub.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.model.folder import (
    PROVENANCE_FILE,
    ModelFolder,
    now,
    read_provenance,
    write_provenance,
)
from pipeline.model.store.address import HubAddress
from pipeline.model.store.steps import Steps
from pipeline.user_folder import cache_folder


def store_root() -> Path:
    """Where models are kept: ``$RACKMILL_HOME/models``, else ``~/.cache/rackmill/models``."""
    return cache_folder() / "models"  # absolute: workers run in other folders


def stored_models() -> list[ModelFolder]:
    """Every model in the store, under the name of its folder."""
    return [ModelFolder(path.name, path) for path, _ in _facts()]


def is_stored(folder: str) -> bool:
    """Whether the store has a complete model in a folder of that name."""
    return folder not in ("", ".", "..") and (store_root() / folder / PROVENANCE_FILE).exists()


def find_by_address(address: HubAddress, precision: str) -> ModelFolder | None:
    """The stored model that ``address`` means; of several, the one that was requested last.

    ``precision`` counts only for converted models: other checkpoints are kept as published.
    """
    matches = []
    for path, facts in _facts():
        if "gguf_key" in facts and facts.get("precision") != precision:
            continue
        addresses = {str(facts.get("source")): facts.get("added", "")}
        for known, when in (addresses | dict(facts.get("addresses") or {})).items():
            with contextlib.suppress(UsageError):
                if address.covers(HubAddress.parse(known)):
                    matches.append((str(when), str(path)))
    return _model(Path(max(matches)[1])) if matches else None


def find_by_content(
    precision: str, *, gguf_key: str = "", sha256: str = "", outdated: bool = False
) -> ModelFolder | None:
    """A stored model that was converted from a file of this content (at any path), and that
    today's conversion would make the same; ``outdated``: one that it would make different."""
    for path, facts in _facts():
        same = (gguf_key and facts.get("gguf_key") == gguf_key) or (
            sha256 and facts.get("source_sha256") == sha256
        )
        if (
            same
            and facts.get("precision") == precision
            and (model := _model(path)).is_outdated == outdated
        ):
            return model
    return None


def remember(folder: Path, *addresses: HubAddress) -> None:
    """Note that the addresses now mean ``folder``."""
    known = dict(read_provenance(folder).get("addresses") or {})
    write_provenance(folder, {"addresses": known | {str(a): now() for a in addresses}})


def download_folder(address: HubAddress) -> Path:
    """The folder for the files of a commit until they are a model."""
    name = f"{address.repository.replace('/', '--')}-{address.revision[:12]}"
    return store_root().parent / "downloads" / (f"{name}-{address.name}" if address.file else name)


@contextlib.contextmanager
def exclusive(what: str, steps: Steps) -> Iterator[None]:
    """Only one process of this machine at a time makes ``what``; the others then find it."""
    name = hashlib.sha256(what.encode()).hexdigest()[:16]
    path = store_root().parent / "locks" / f"{name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("w")
    except OSError as e:
        raise UsageError(
            f"models are kept in {store_root()}, where nothing can be written: {e.strerror or e}",
            "set RACKMILL_HOME to a folder of yours",
        ) from None
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            steps.say(f"another rackmill is making {what}: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _facts() -> Iterator[tuple[Path, dict[str, Any]]]:
    for file in sorted(store_root().glob(f"*/{PROVENANCE_FILE}")):
        if not file.parent.name.startswith("."):
            yield file.parent, read_provenance(file.parent)


def _model(path: Path) -> ModelFolder:
    return ModelFolder(str(read_provenance(path).get("name", path.name)), path)
