"""Reads a GGUF file: its tensors, in blocks of rows, under Hugging Face names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf.constants import GGMLQuantizationType as Kind
from gguf.quants import dequantize

from pipeline.errors import UsageError
from pipeline.model.convert.gguf_header import ByteSpan, Header, read_header
from pipeline.model.families.base import Family
from pipeline.model.families.registry import family_of_gguf

Floats = np.ndarray[Any, np.dtype[np.float32]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]

# types that are converted to floats; the gguf package's tables for i-quants are correct too, but
# Gemma's own files do not use these types, and dequantizing them takes minutes per tensor
_READABLE = {
    Kind.F32, Kind.F16, Kind.BF16, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0,
    Kind.Q2_K, Kind.Q3_K, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K, Kind.IQ4_NL, Kind.IQ4_XS,
}  # fmt: skip
_BLOCK_BYTES = 1 << 18  # read and processed at once: fits the second-level cache


@dataclass(frozen=True)
class GgufTensor:
    """One tensor of the file. ``shape`` is (rows, columns) as Hugging Face has it."""

    name: str
    shape: tuple[int, ...]
    path: Path
    span: ByteSpan

    @property
    def storage_type(self) -> str:
        """The name in llama.cpp, e.g. "Q4_0"."""
        return str(self.span.kind.name)

    @property
    def n_bytes(self) -> int:
        """Bytes in the file."""
        return self.span.size

    @property
    def is_norm(self) -> bool:
        return self.name.endswith("norm.weight")

    @property
    def is_linear(self) -> bool:
        return self.name.endswith("_proj.weight")

    @property
    def module_kind(self) -> str:
        """What the tensor is in the model: "norm", "linear", "embedding" or "output head"."""
        if self.is_norm:
            return "norm"
        if self.is_linear:
            return "linear"
        return "output head" if self.name == "lm_head.weight" else "embedding"

    def float32(self) -> Floats:
        """The weights as float32 of ``shape``; norms as w, not llama.cpp's 1 + w."""
        blocks = [self.floats(block) for block in self.blocks()]
        return (blocks[0] if len(blocks) == 1 else np.concatenate(blocks)).reshape(self.shape)

    def blocks(self) -> Iterator[Bytes]:
        """The tensor's bytes as stored, whole rows at a time: uint8, (rows, bytes of a row)."""
        rows = self.shape[0] if len(self.shape) > 1 else 1
        row_bytes = self.span.size // rows
        at_once = max(1, _BLOCK_BYTES // row_bytes)
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.span.offset)
            for start in range(0, rows, at_once):
                block = np.empty((min(at_once, rows - start), row_bytes), np.uint8)
                whole: Any = block
                view = memoryview(whole).cast("B")
                filled = 0
                while filled < len(view):
                    got = file.readinto(view[filled:])
                    if not got:
                        raise UsageError(
                            f"{self.path} became shorter while it was read", "convert it again"
                        )
                    filled += got
                yield block

    def floats(self, block: Bytes) -> Floats:
        """The values of stored rows: float32, (rows, columns); norms as w."""
        if self.span.kind in (Kind.F32, Kind.F16):
            stored = np.float32 if self.span.kind == Kind.F32 else np.float16
            values = block.view(stored).astype(np.float32)
        else:
            values = dequantize(block, self.span.kind)
        return values - 1.0 if self.is_norm else values


class GgufFile:
    """A text model in a GGUF file.

    Raises UsageError when the file is not GGUF, is cut off, or holds an unknown architecture, a
    tensor that no text model of its family has, or a tensor of a type that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: Header = read_header(path)
        self.family = self._family()
        self._tensors = [self._tensor(span) for span in self.header.tensors]

    def _family(self) -> Family:
        architecture = str(self.header.fields.get("general.architecture", ""))
        if architecture in ("clip", "mmproj") or "clip.projector_type" in self.header.fields:
            raise UsageError(
                f"{self.path} holds only the vision part (mmproj) of a model",
                "rackmill converts the text model: give the file beside it without mmproj in "
                "its name",
            )
        return family_of_gguf(architecture, self.path)

    def _tensor(self, span: ByteSpan) -> GgufTensor:
        name = self.family.tensor_name(span.name)
        if name is None:
            raise UsageError(
                f"{self.path}: tensor {span.name!r} is not one of a {self.family.title} text model",
                "adapters and merged vision models are not converted",
            )
        if span.kind not in _READABLE:
            raise UsageError(
                f"{self.path}: tensor {span.name} has the type {span.kind.name}, which rackmill "
                "does not read",
                "take a Q4_0, Q8_0, Q4_K_M, Q5_K_M, Q6_K or F16 file of the same model",
            )
        return GgufTensor(name, span.shape, self.path, span)

    @property
    def chat_template(self) -> str | None:
        """The Jinja chat template; None for a base model."""
        template = self.header.fields.get("tokenizer.chat_template")
        return str(template) if template else None

    @property
    def digest(self) -> str:
        """Identifies the metadata, tensor layout and length of the file; does not read its data."""
        with self.path.open("rb") as file:
            digest = hashlib.sha256(file.read(self.header.data))
        digest.update(str(self.path.stat().st_size).encode())
        return digest.hexdigest()

    def tensors(self) -> Iterator[GgufTensor]:
        """Every tensor, in file order, under its Hugging Face name."""
        yield from self._tensors

    def config(self) -> dict[str, Any]:
        """The ``config.json`` of the text model, in the form of transformers.

        Raises UsageError for a missing field, a missing tensor, and a tensor whose shape
        contradicts the metadata.
        """
        shapes = {t.name: t.shape for t in self._tensors}
        return self.family.gguf_config(self.path, self.header.fields, shapes)
