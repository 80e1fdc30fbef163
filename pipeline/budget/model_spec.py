"""What is asked: a model in one precision, and what is wanted of its engine. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.budget.weights import GROUP_SIZE, Weights, weight_bytes
from pipeline.model.catalogue import MODELS, CatalogueModel, Precision
from pipeline.model.folder import ModelFolder, read_config
from pipeline.model.geometry import Geometry


@dataclass(frozen=True)
class ModelSpec:
    """A model in one precision. ``announced_gb``: memory as announced, if it was."""

    name: str
    title: str
    geometry: Geometry
    weights: Weights
    announced_gb: float | None = None

    @property
    def precision(self) -> Precision:
        return self.weights.precision

    @property
    def has_vision(self) -> bool:
        return self.weights.vision_bytes > 0

    @classmethod
    def of(cls, model: CatalogueModel, precision: Precision) -> ModelSpec:
        """A catalogue model in ``precision``."""
        return cls(
            name=model.name,
            title=model.title,
            geometry=model.geometry,
            weights=weight_bytes(model.geometry, precision, vision=model.vision_parameters),
            announced_gb=model.announced_gb.get(precision),
        )

    @classmethod
    def of_folder(cls, folder: ModelFolder) -> ModelSpec:
        """A checkpoint. Raises UsageError."""
        known = next((m for m in MODELS.values() if folder.name.startswith(m.name)), None)
        groups = (read_config(folder.path).get("quantization_config") or {}).get("config_groups")
        sizes = [(g.get("weights") or {}).get("group_size") for g in (groups or {}).values()]
        weights = weight_bytes(
            folder.geometry,
            folder.precision,
            vision=folder.vision_parameters,
            group_size=next((s for s in sizes if s), GROUP_SIZE),
        )
        return cls(
            known.name if known else folder.name,
            known.title if known else folder.name,
            folder.geometry,
            weights,
            known.announced_gb.get(folder.precision) if known else None,
        )

    def __str__(self) -> str:
        return f"{self.name} {self.precision}"


@dataclass(frozen=True)
class FitOptions:
    """What is asked of the engine. ``context``: tokens of one request (None: nothing special).
    ``vision``: images too. ``cards``: so many share each layer. ``overhead_correction``: bytes
    beside weights and KV cache that an engine on such a card last reported. ``given``: further
    vLLM arguments, as in a job."""

    context: int | None = None
    kv_dtype: str = "auto"  # auto, bf16 or fp8
    vision: bool = False
    gpu_memory_utilization: float | None = None
    max_num_batched_tokens: int | None = None
    cards: int = 1
    overhead_correction: int | None = None
    given: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_arguments(
        cls, given: Mapping[str, Any], context: int, overhead_correction: int | None = None
    ) -> FitOptions:
        """For a job with these engine arguments and a longest request of ``context`` tokens."""
        dtype = str(given.get("kv_cache_dtype", "auto"))
        return cls(
            context=context,
            kv_dtype={"bfloat16": "bf16", "auto": "auto"}.get(dtype, dtype),
            overhead_correction=overhead_correction,
            given=dict(given),
        )

    @property
    def arguments(self) -> dict[str, Any]:
        """The vLLM arguments that these options stand for."""
        chosen: dict[str, Any] = dict(self.given)
        if self.kv_dtype != "auto":
            chosen["kv_cache_dtype"] = "auto" if self.kv_dtype == "bf16" else self.kv_dtype
        if self.vision:
            chosen["language_model_only"] = False
        if self.gpu_memory_utilization is not None:
            chosen["gpu_memory_utilization"] = self.gpu_memory_utilization
        if self.max_num_batched_tokens is not None:
            chosen["max_num_batched_tokens"] = self.max_num_batched_tokens
        if self.cards > 1:
            chosen["tensor_parallel_size"] = self.cards
        if self.context is None:  # for requests of all lengths, so nothing for short ones alone
            chosen.setdefault("disable_hybrid_kv_cache_manager", False)
        return chosen
