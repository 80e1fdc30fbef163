"""A checkpoint folder and its ``rackmill.json``: what it is, where it came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.model.catalogue import Precision
from pipeline.model.families.base import Family
from pipeline.model.families.registry import family_of, read_geometry
from pipeline.model.geometry import Geometry
from pipeline.model.json_file import read_json
from pipeline.model.store.steps import after
from pipeline.model.tensors import read_tensors
from pipeline.model.tokenizer import Tokenizer, chat_template
from pipeline.storage.local import LocalStorage

PROVENANCE_FILE = "rackmill.json"  # its presence says that a folder of ours is whole
# version of what conversions write; 3: rounding gives the same result on every machine
CONVERSION = 3
ROUNDED = "rounded"  # start of the words for tensors whose codes a conversion did not keep
_CHUNK = 1 << 22


@dataclass(frozen=True)
class ModelFolder:
    """A checkpoint that vLLM loads: weights as safetensors, config, tokenizer."""

    name: str
    path: Path

    @cached_property
    def family(self) -> Family:
        """Raises UsageError for a family that rackmill does not know."""
        return family_of(read_config(self.path), self.path)

    @cached_property
    def geometry(self) -> Geometry:
        return read_geometry(self.path)

    @cached_property
    def provenance(self) -> Mapping[str, Any]:
        """The facts of ``rackmill.json``; empty for folders that rackmill did not make."""
        return read_provenance(self.path)

    @cached_property
    def hash(self) -> str:
        """Identifies the model. If rackmill made it: the SHA-256 of its weights, with the commit
        if it was fetched. For a user's folder: the SHA-256 over config and every weight file's
        name, size and modification time; reading gigabytes before every run is not worth the cost.
        """
        weights = self.provenance.get("weights_sha256")
        if weights:
            if self.revision:
                return hashlib.sha256(f"{weights}@{self.revision}".encode()).hexdigest()
            return str(weights)
        digest = hashlib.sha256((self.path / "config.json").read_bytes())
        for file in self.weight_files:
            stat = file.stat()
            digest.update(f"{file.name}:{stat.st_size}:{stat.st_mtime_ns}".encode())
        return digest.hexdigest()

    @property
    def revision(self) -> str:
        """The commit that was fetched; "" for local files."""
        return str(self.provenance.get("revision", ""))

    @property
    def is_outdated(self) -> bool:
        """Whether an earlier version of rackmill rounded it, and today's would get other codes
        from the same file (before version 3, codes depended on the machine)."""
        rounded = any(
            str(row.get("what", "")).startswith(ROUNDED)
            for row in self.provenance.get("tensor_types", ())
        )
        return rounded and self.provenance.get("conversion", 0) < CONVERSION

    @property
    def quantization(self) -> str:
        """In words, e.g. "int4 group 32"."""
        known = self.provenance.get("quantization")
        return str(known) if known else quantization_in_words(read_config(self.path))

    @property
    def precision(self) -> Precision:
        """Of the linear layers: for any 4 or 8 bit format the closest one here, otherwise bf16."""
        words = self.quantization
        if any(four in words for four in ("int4", "awq", "gptq")):
            return "int4"
        return "int8" if "int8" in words or "fp8" in words else "bf16"

    @property
    def has_vision(self) -> bool:
        """Whether the checkpoint has a vision tower beside the text model."""
        return "vision_config" in read_config(self.path)

    @property
    def vision_parameters(self) -> int:
        """Parameters of its vision tower, 0 without one."""
        return self.family.vision_parameters(self.geometry) if self.has_vision else 0

    @property
    def has_chat_template(self) -> bool:
        """Whether it takes messages; a base model does not."""
        return chat_template(self.path) is not None

    def tokenizer(self, chat: str | None = None) -> Tokenizer:
        """``chat``: a template for messages instead of its own. Raises UsageError."""
        own = Tokenizer(self.path)
        return own if chat is None else own.with_chat_template(chat)

    @property
    def licence(self) -> str:
        return str(self.provenance.get("licence", self.family.licence))

    @property
    def weight_files(self) -> list[Path]:
        return sorted(self.path.glob("*.safetensors"))

    @property
    def weights_bytes(self) -> int:
        """Size of the weight files, bytes."""
        return sum(f.stat().st_size for f in self.weight_files)


def read_config(folder: Path) -> dict[str, Any]:
    """The content of ``config.json``; empty when it cannot be read."""
    try:
        return read_json(folder / "config.json")
    except UsageError:
        return {}


def quantization_in_words(config: Mapping[str, Any]) -> str:
    """E.g. "int4 group 32", "awq", "bfloat16"; "" when the config does not say."""
    settings = config.get("quantization_config") or {}
    for group in (settings.get("config_groups") or {}).values():
        weights = group.get("weights") or {}
        if "num_bits" in weights:
            size = weights.get("group_size")
            return f"int{weights['num_bits']}" + (f" group {size}" if size else "")
    text = config.get("text_config") or {}
    return str(
        settings.get("quant_method")
        or config.get("dtype")
        or config.get("torch_dtype")
        or text.get("dtype", "")
    )


def check_folder(folder: ModelFolder) -> ModelFolder:
    """Returns ``folder`` if it holds what vLLM needs to load a model. Raises UsageError."""
    for needed in ("config.json", "tokenizer.json"):
        if not (folder.path / needed).is_file():
            raise UsageError(f"model: {folder.path} is not a checkpoint: it lacks {needed}")
    if not folder.weight_files:
        raise UsageError(
            f"model: {folder.path} holds no .safetensors weights (other formats are not loaded)"
        )
    for name in ("config.json", "tokenizer_config.json"):
        if (folder.path / name).is_file() and "auto_map" in read_json(folder.path / name):
            raise UsageError(
                f"model: {folder.path / name} wants to run Python code of its own (auto_map), "
                "which rackmill never does",
                "no model needs it here: take the original checkpoint, or delete the entry",
            )
    _ = folder.geometry
    try:
        read_tensors(folder.path)
    except (ValueError, OSError) as e:
        raise UsageError(
            f"model: the weights in {folder.path} cannot be read: {e}", "fetch them again"
        ) from None
    return folder


def read_provenance(folder: Path) -> dict[str, Any]:
    """``rackmill.json`` of a folder; empty when it is missing or cannot be read."""
    try:
        content = read_json(folder / PROVENANCE_FILE)
    except UsageError:
        return {}
    facts = content.get("source_facts")
    return {**facts, **content} if isinstance(facts, dict) else content


def write_provenance(folder: Path, facts: Mapping[str, Any]) -> None:
    """Put ``facts`` into ``rackmill.json``, all or nothing; its other content stays."""
    try:
        content = read_json(folder / PROVENANCE_FILE)
    except UsageError:
        content = {}
    text = json.dumps(content | dict(facts), indent=2, ensure_ascii=False) + "\n"
    LocalStorage(folder).replace(PROVENANCE_FILE, text.encode())


def describe_files(
    folder: Path,
    known: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Facts for checking a folder later: every file's SHA-256, and one for all weights.

    ``known``: file name -> SHA-256 that need not be computed again.
    """
    files = sorted(
        f
        for f in folder.iterdir()
        if f.is_file() and not f.name.startswith(".") and f.name != PROVENANCE_FILE
    )
    known = known or {}
    found = {**known, **hashes_of([f for f in files if f.name not in known], progress)}
    hashes = {file.name: found[file.name] for file in files}
    weights = [(name, h) for name, h in hashes.items() if name.endswith(".safetensors")]
    one = "\n".join(f"{name} {h}" for name, h in weights)
    return {
        "files": hashes,
        "weights_sha256": weights[0][1]
        if len(weights) == 1
        else hashlib.sha256(one.encode()).hexdigest(),
    }


def hashes_of(
    files: Iterable[Path], progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, str]:
    """The SHA-256 of each, by its name. ``progress`` gets (bytes read, bytes in all)."""
    sizes = {file: file.stat().st_size for file in files}
    hashes: dict[str, str] = {}
    done = 0
    for file, size in sizes.items():
        hashes[file.name] = sha256_of(file, after(done, sum(sizes.values()), progress))
        done += size
    return hashes


def sha256_of(path: Path, progress: Callable[[int], None] = lambda done: None) -> str:
    """Hex digest of a file's bytes; ``progress`` gets the bytes read so far."""
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            progress(done)
    return digest.hexdigest()


def now() -> str:
    """The time as ``rackmill.json`` has it: UTC, in microseconds, to keep the order visible."""
    return datetime.now(UTC).isoformat()
