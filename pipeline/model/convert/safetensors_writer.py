"""Writes a .safetensors file piece by piece, for tensors that are never in memory as a whole.

The format: eight bytes with the length of a JSON header, the header (type, shape and place of every
tensor), the tensors' bytes. https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch

_DTYPES = {torch.bfloat16: "BF16", torch.int32: "I32", torch.int64: "I64"}
_ALIGNMENT = 8


@dataclass(frozen=True)
class TensorSlot:
    """A tensor to be written."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


class SafetensorsWriter:
    """Lays out ``slots`` in their order; each then comes in blocks of rows. The file is written
    from front to back, to hash it at the same time: rows of a later slot wait in memory for the
    slots before it. ``close`` makes the file durable and returns its SHA-256.
    """

    def __init__(self, path: Path, slots: list[TensorSlot]) -> None:
        head: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        at = 0
        for slot in slots:
            head[slot.name] = {
                "dtype": _DTYPES[slot.dtype],
                "shape": list(slot.shape),
                "data_offsets": [at, at + slot.n_bytes],
            }
            at += slot.n_bytes
        text = json.dumps(head, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        self._missing = {slot.name: slot.n_bytes for slot in slots}  # bytes, first slot first
        self._waiting: dict[str, list[memoryview]] = {}
        self._digest = hashlib.sha256()
        self._file = path.open("wb", buffering=0)
        self._put(memoryview(len(text).to_bytes(8, "little") + text))

    def write(self, name: str, rows: torch.Tensor) -> None:
        """Write the next rows of tensor ``name``; they must not change afterwards."""
        if name not in self._missing:
            raise ValueError(f"more rows than announced for {name}")
        flat: Any = rows.contiguous().view(torch.uint8).flatten().numpy()
        self._waiting.setdefault(name, []).append(memoryview(flat))
        while self._missing:
            first = next(iter(self._missing))
            for data in self._waiting.pop(first, ()):
                self._missing[first] -= len(data)
                if self._missing[first] < 0:
                    raise ValueError(f"more rows than announced for {first}")
                self._put(data)
            if self._missing[first]:
                return
            del self._missing[first]

    def _put(self, data: memoryview) -> None:
        self._digest.update(data)
        while data:
            data = data[self._file.write(data) :]

    def close(self) -> str:
        """Flush to the disk. Returns the hex SHA-256 of the whole file."""
        for name in self._missing:
            raise ValueError(f"fewer rows than announced for {name}")
        os.fsync(self._file.fileno())
        self._file.close()
        return self._digest.hexdigest()

    def __enter__(self) -> SafetensorsWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
