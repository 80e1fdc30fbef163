"""Which tensors a checkpoint holds, read from the headers of its safetensors files, and whether
they are those that its config describes."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from pathlib import Path
from typing import Any

from pipeline.model.families.base import Family
from pipeline.model.geometry import Geometry

_MOST_HEADER_BYTES = 100_000_000
_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "I8": 1, "U8": 1}


@dataclass(frozen=True)
class Tensor:
    """Where a tensor's bytes are: ``start`` and ``end`` within ``file``."""

    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    end: int

    def integers(self) -> list[int]:
        """The content of a small I64 tensor."""
        with self.file.open("rb") as file:
            file.seek(self.start)
            content = file.read(self.end - self.start)
        return list(struct.unpack(f"<{len(content) // 8}q", content))


@dataclass(frozen=True)
class Packing:
    """How compressed-tensors stores the linear layers. ``group_size`` 0: one scale per row."""

    bits: int
    group_size: int
    packed: bool  # codes in words of 32 bits; otherwise one per int8
    ignored: tuple[str, ...]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Packing | None:
        """None for a checkpoint that is not quantized. Raises ValueError for other methods."""
        settings = config.get("quantization_config")
        if not settings:
            return None
        if settings.get("quant_method") != "compressed-tensors":
            raise ValueError(f"quantized by {settings.get('quant_method')}")
        [group] = settings["config_groups"].values()
        weights = group["weights"]
        return cls(
            bits=int(weights["num_bits"]),
            group_size=int(weights.get("group_size") or 0),
            packed=settings.get("format") == "pack-quantized",
            ignored=tuple(str(i) for i in settings.get("ignore") or ()),
        )

    def ignores(self, module: str) -> bool:
        """Whether the config says that ``module`` is not quantized."""
        return any(
            re.match(pattern[3:], module) is not None
            if pattern.startswith("re:")
            else module == pattern or fnmatchcase(module, pattern)
            for pattern in self.ignored
        )


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the folder's safetensors files. Raises ValueError: damaged, or cut off."""
    tensors: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        for name, tensor in _read_head(file):
            if name in tensors:
                raise ValueError(f"{name} is in {tensors[name].file.name} and in {file.name}")
            tensors[name] = tensor
    return tensors


def _read_head(path: Path) -> Iterator[tuple[str, Tensor]]:
    if not path.is_file():
        raise ValueError(f"{path.name} is not a file")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_MOST_HEADER_BYTES, size - 8):
            raise ValueError(f"{path.name} is not a safetensors file, or cut off")
        try:
            head = json.loads(file.read(length))
            entries = [
                (n, str(e["dtype"]), tuple(map(int, e["shape"])), *map(int, e["data_offsets"]))
                for n, e in head.items()
                if n != "__metadata__"
            ]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
            raise ValueError(f"{path.name} is not a safetensors file, or damaged") from None
    if any(start < 0 or end < start for *_, start, end in entries):
        raise ValueError(f"{path.name} is not a safetensors file, or damaged")
    begin = 8 + length
    if begin + max((end for *_, end in entries), default=0) != size:
        raise ValueError(f"{path.name} is cut off, or has something behind its end")
    for name, dtype, shape, start, end in entries:
        if dtype in _BYTES and end - start != prod(shape) * _BYTES[dtype]:
            raise ValueError(
                f"{path.name}: {name} has {end - start} bytes for {dtype} {list(shape)}"
            )
        yield name, Tensor(dtype, shape, path, begin + start, begin + end)


def differences(
    tensors: Mapping[str, Tensor], family: Family, geometry: Geometry, packing: Packing | None
) -> list[str]:
    """How the tensors differ from those of the text model that ``geometry`` describes: a sentence
    for each difference, empty if there is none."""
    plain = family.prefixes[0]
    prefix = next((p for p in family.prefixes if f"{p}embed_tokens.weight" in tensors), plain)
    layers = family.layer_shapes(geometry)
    expected = {
        f"{prefix}layers.{i}.{m}": s for i in range(geometry.layers) for m, s in layers.items()
    }
    expected |= {
        f"{prefix}embed_tokens": (geometry.vocabulary, geometry.hidden),
        f"{prefix}norm": (geometry.hidden,),
    }
    wrong: list[str] = []
    known: set[str] = set()
    for module, shape in expected.items():
        held = {n for n in _names(module) if n in tensors}
        known |= held
        if f"{module}.weight_packed" in held or f"{module}.weight_scale" in held:
            wrong += _wrong_codes(tensors, module, shape, packing)
        else:
            wrong += _wrong_plain(tensors, module, shape, packing)
    text = [
        n for n in tensors if n.startswith(prefix) and ".vision" not in n and "multi_modal" not in n
    ]
    if prefix == plain and any("language_model" in n for n in tensors):
        text = []
    wrong += [f"{n} belongs to no {family.title} of this shape" for n in text if n not in known]
    return wrong


def _names(module: str) -> tuple[str, ...]:
    return tuple(f"{module}.weight{s}" for s in ("", "_packed", "_scale", "_shape"))


def _wrong_plain(
    tensors: Mapping[str, Tensor], module: str, shape: tuple[int, ...], packing: Packing | None
) -> list[str]:
    name = f"{module}.weight"
    tensor = tensors.get(name)
    if tensor is None:
        return [f"{name} is missing"]
    if tensor.shape != shape:
        return [f"{name} is {list(tensor.shape)} instead of {list(shape)}"]
    if packing and module.endswith("_proj") and not packing.ignores(module):
        return [f"{name} is not quantized, but the config does not say so"]
    return []


def _wrong_codes(
    tensors: Mapping[str, Tensor], module: str, shape: tuple[int, ...], packing: Packing | None
) -> list[str]:
    if packing is None or packing.ignores(module):
        return [f"{module} is quantized, but the config does not say so"]
    rows, columns = shape
    groups = columns // packing.group_size if packing.group_size else 1
    expected: dict[str, tuple[str, tuple[int, ...]]] = {"_scale": ("BF16", (rows, groups))}
    if packing.packed:
        expected |= {
            "_packed": ("I32", (rows, -(-columns // (32 // packing.bits)))),
            "_shape": ("I64", (2,)),
        }
    else:
        expected |= {"": ("I8", shape)}
    wrong = []
    for suffix, (dtype, wanted) in expected.items():
        name = f"{module}.weight{suffix}"
        tensor = tensors.get(name)
        if tensor is None:
            wrong.append(f"{name} is missing")
        elif tensor.shape != wanted or (tensor.dtype != dtype and suffix != "_scale"):
            found = f"{tensor.dtype} {list(tensor.shape)}"
            wrong.append(f"{name} is {found} instead of {dtype} {list(wanted)}")
        elif suffix == "_shape" and tensor.integers() != [rows, columns]:
            wrong.append(f"{name} says {tensor.integers()} instead of {[rows, columns]}")
    return wrong
