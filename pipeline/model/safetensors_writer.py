"""Writing a .safetensors file piece by piece, for tensors that never are in memory whole.

The format: eight bytes with the length of a JSON head, the head (type, shape and place of every
tensor), the tensors' bytes. https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

_DTYPES = {torch.bfloat16: "BF16", torch.int32: "I32", torch.int64: "I64"}
_ALIGNMENT = 8


@dataclass(frozen=True)
class Slot:
    """A tensor to come."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


class SafetensorsWriter:
    """Lays out ``slots`` in their order; each is then written in blocks of rows, in any
    interleaving. ``close`` makes the file durable and returns its SHA-256.
    """

    def __init__(self, path: Path, slots: list[Slot]) -> None:
        head: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        self._at: dict[str, int] = {}
        self._end: dict[str, int] = {}
        at = 0
        for slot in slots:
            head[slot.name] = {
                "dtype": _DTYPES[slot.dtype],
                "shape": list(slot.shape),
                "data_offsets": [at, at + slot.n_bytes],
            }
            self._at[slot.name], self._end[slot.name] = at, at + slot.n_bytes
            at += slot.n_bytes
        text = json.dumps(head, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        start = 8 + len(text)
        self._at = {name: start + place for name, place in self._at.items()}
        self._end = {name: start + place for name, place in self._end.items()}
        self.path = path
        self._file = path.open("w+b", buffering=0)
        self._file.write(len(text).to_bytes(8, "little") + text)

    def write(self, name: str, rows: torch.Tensor) -> None:
        """The next rows of tensor ``name``."""
        data = memoryview(rows.contiguous().view(torch.uint8).flatten().numpy())
        if self._at[name] + len(data) > self._end[name]:
            raise ValueError(f"more rows than announced for {name}")
        while data:
            written = os.pwrite(self._file.fileno(), data, self._at[name])
            self._at[name] += written
            data = data[written:]

    def close(self) -> str:
        """Flush to the disk; hex SHA-256 of the whole file."""
        short = [name for name, at in self._at.items() if at != self._end[name]]
        if short:
            raise ValueError(f"fewer rows than announced for {short[0]}")
        self._file.seek(0)
        digest = hashlib.file_digest(self._file, "sha256").hexdigest()
        os.fsync(self._file.fileno())
        self._file.close()
        return digest

    def __enter__(self) -> SafetensorsWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def as_torch(values: np.ndarray[Any, Any]) -> torch.Tensor:
    """The same memory; read-only arrays are copied."""
    return torch.from_numpy(np.require(values, requirements="W"))
