"""Planning for a model of the catalogue that was never fetched.

Its shape is known, and all models of a family share one tokenizer, so any stored model's tokenizer
serves.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.model.catalogue import CATALOGUE, CatalogueEntry, Precision, named
from pipeline.model.families.registry import family_of
from pipeline.model.folder import ModelFolder, read_config
from pipeline.model.geometry import Geometry
from pipeline.model.store.index import stored_models
from pipeline.model.store.resolve import in_store, resolve
from pipeline.model.store.steps import Report
from pipeline.model.tokenizer import Tokenizer


@dataclass(frozen=True)
class StandIn(ModelFolder):
    """A model that is not here, with the tokenizer of a stored one, whose ``path`` it has."""

    entry: CatalogueEntry

    # override properties of a frozen base: the other model's folder must not count
    @property
    def geometry(self) -> Geometry:
        return self.entry.model.geometry

    @property
    def hash(self) -> str:
        return f"not fetched: {self.entry.name}"

    @property
    def quantization(self) -> str:
        return "int4 group 32" if self.precision == "int4" else self.precision

    @property
    def precision(self) -> Precision:
        return self.entry.precision

    @property
    def has_vision(self) -> bool:
        return self.entry.model.vision

    @property
    def has_chat_template(self) -> bool:
        return self.entry.model.chat

    def tokenizer(self, chat: str | None = None) -> Tokenizer:
        known = read_config(self.path)
        usual = family_of(known, self.path).chat_template if self.entry.model.chat else None
        return super().tokenizer(chat if chat is not None else usual)


def resolve_for_planning(
    reference: str, report: Report = lambda line: None, then: str = "`run` fetches it first"
) -> ModelFolder:
    """As ``resolve``, but without a download: a stand-in replaces a model of the catalogue that
    is not here, and ``report`` gets a line about it, with what comes ``then``. Raises UsageError
    if no stored model has a tokenizer.
    """
    entry = named(reference)
    if in_store(reference) is None and reference.startswith("hf://"):
        raise UsageError(
            f"model: {reference} is not in the store, so its shape is not known",
            f"rackmill model add {reference}",
        )
    if entry is None or entry.source.package or in_store(reference) is not None:
        return resolve(reference, report)
    path = _tokenizer_folder(entry, report)
    report(f"{entry.model.name} is not in the store yet; {then}")
    return StandIn(entry.model.name, path, entry)


def resolve_for_rehearsal(reference: str, report: Report) -> ModelFolder:
    """For an engine that computes nothing: downloads only what a stand-in cannot replace. Raises
    UsageError."""
    try:
        return resolve_for_planning(reference, report, "a rehearsal needs its shape alone")
    except UsageError:
        return resolve(reference, report)


def rehearsed_hash(reference: str, model: ModelFolder) -> str:
    """Identifies a model in a rehearsal: the same whether it is in the store or not."""
    entry = named(reference)
    return model.hash if entry is None else f"rehearsed: {entry.name}"


def _tokenizer_folder(wanted: CatalogueEntry, report: Report) -> Path:
    family = wanted.model.family
    for model in stored_models():
        if (model.path / "tokenizer.json").exists() and family.has(read_config(model.path)):
            return model.path
    packaged = (e.name for e in CATALOGUE.values() if e.source.package and e.model.family == family)
    try:
        return resolve(next(packaged), report).path
    except (UsageError, StopIteration):
        none = f"no other {family.title} to count tokens with"
        raise UsageError(
            f"model: {wanted.name} is not in the store, and {none}",
            f"rackmill model add {wanted.name}, or pip install 'rackmill[demo]'",
        ) from None
