"""A checkpoint with a Gemma 3's true shape and made-up int4 weights: as fast and as large as the
real one, and nothing has to be downloaded.

Codes are random bits out of one buffer, so writing 12B takes as long as the disk needs. What such
a model answers is noise; lengths are fixed by ``ignore_eos`` wherever speed is measured.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from pipeline.errors import UsageError
from pipeline.model.catalogue import MODELS
from pipeline.model.convert.safetensors_writer import SafetensorsWriter, TensorSlot
from pipeline.model.families.gemma3.shapes import layer_shapes
from pipeline.model.folder import ModelFolder
from pipeline.model.geometry import Geometry
from pipeline.model.store.resolve import resolve

REAL = "gemma-3-270m"  # ships as a package: its weights, and the tokenizer of all sizes
_GROUP = 32
_SCALE = 0.004  # codes of -8..7: weights of about 0.02, as trained ones
_BUFFER = 1 << 26  # bytes of random codes
_WHOLE = "written whole"
_EVERY = 6  # layers, of which the last attends to all tokens


def checkpoint(name: str, folder: Path) -> ModelFolder:
    """The model ``name``: the real one, or a made-up one in ``folder``, which is kept there.

    Raises UsageError: no such model, no room on the disk.
    """
    real = resolve(REAL, lambda line: None)
    if name == REAL:
        return real
    if name not in MODELS:
        raise UsageError(f"model: {name!r} is unknown", f"known: {', '.join(MODELS)}")
    target = folder / f"{name}-made-up"
    if not (target / _WHOLE).exists():
        _write(MODELS[name].geometry, real.path, target)
    return ModelFolder(name, target)


def _write(geometry: Geometry, real: Path, target: Path) -> None:
    slots = list(_slots(geometry))
    columns_of = {
        f"model.layers.{layer}.{module}.weight_shape": shape
        for layer in range(geometry.layers)
        for module, shape in layer_shapes(geometry).items()
    }
    needed = sum(slot.n_bytes for slot in slots)
    target.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(target).free
    if free < 1.05 * needed:
        raise UsageError(
            f"{target}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free",
            "name another --folder, or a smaller --model",
        )
    for file in real.iterdir():
        if file.suffix in (".json", ".jinja") and file.name not in ("config.json", "rackmill.json"):
            shutil.copyfile(file, target / file.name)
    (target / "config.json").write_text(json.dumps(_config(geometry, real), indent=1))
    random = torch.randint(-(1 << 31), (1 << 31) - 1, (_BUFFER // 4,), dtype=torch.int64)
    codes = random.to(torch.int32)
    normal = torch.randn(_BUFFER // 2).mul_(0.02).to(torch.bfloat16)
    with SafetensorsWriter(target / "model.safetensors", slots) as writer:
        for slot in slots:
            if slot.name.endswith("_shape"):
                writer.write(slot.name, torch.tensor(columns_of[slot.name], dtype=torch.int64))
                continue
            for piece in _pieces(slot, codes, normal):
                writer.write(slot.name, piece)
        writer.close()
    (target / _WHOLE).touch()


def _slots(geometry: Geometry) -> Iterator[TensorSlot]:
    """Every tensor of the text model, as the converter names and packs them."""
    yield TensorSlot(
        "model.embed_tokens.weight", torch.bfloat16, (geometry.vocabulary, geometry.hidden)
    )
    for layer in range(geometry.layers):
        for module, shape in layer_shapes(geometry).items():
            name = f"model.layers.{layer}.{module}.weight"
            if not module.endswith("_proj"):
                yield TensorSlot(name, torch.bfloat16, shape)
                continue
            rows, columns = shape
            yield TensorSlot(f"{name}_packed", torch.int32, (rows, columns // 8))
            yield TensorSlot(f"{name}_scale", torch.bfloat16, (rows, columns // _GROUP))
            yield TensorSlot(f"{name}_shape", torch.int64, (2,))
    yield TensorSlot("model.norm.weight", torch.bfloat16, (geometry.hidden,))


def _pieces(slot: TensorSlot, codes: torch.Tensor, normal: torch.Tensor) -> Iterator[torch.Tensor]:
    """The content of ``slot`` in pieces, out of the buffers."""
    if slot.name.endswith("_scale"):
        yield torch.full(slot.shape, _SCALE, dtype=torch.bfloat16)
        return
    if "norm" in slot.name:
        yield torch.zeros(slot.shape, dtype=torch.bfloat16)  # Gemma adds 1
        return
    buffer = codes if slot.dtype == torch.int32 else normal
    left = slot.n_bytes // slot.dtype.itemsize
    while left:
        part = buffer[: min(left, len(buffer))]
        yield part
        left -= len(part)


def _config(geometry: Geometry, real: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((real / "config.json").read_text())
    layers = range(1, geometry.layers + 1)
    return content | {
        "hidden_size": geometry.hidden,
        "intermediate_size": geometry.ffn,
        "num_hidden_layers": geometry.layers,
        "num_attention_heads": geometry.query_heads,
        "num_key_value_heads": geometry.kv_heads,
        "head_dim": geometry.head_dim,
        "query_pre_attn_scalar": geometry.head_dim,
        "sliding_window": geometry.sliding_window,
        "vocab_size": geometry.vocabulary,
        "max_position_embeddings": geometry.context,
        "layer_types": [
            "sliding_attention" if layer % _EVERY else "full_attention" for layer in layers
        ],
    }
