"""What is measured: which card, which model fits it, and the settings that rackmill chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gpu_parts.work import job
from pipeline import job_from
from pipeline.budget.cards.lookup import Card
from pipeline.budget.engine_arguments import PromptShape, choose_settings, setup_of
from pipeline.budget.fit.fit import fit
from pipeline.budget.memory_split import memory_split
from pipeline.budget.model_spec import FitOptions, ModelSpec
from pipeline.budget.weights import weight_bytes
from pipeline.engine.gpu.usable import gpus, offer
from pipeline.engine.gpu.variant import CPU
from pipeline.engine.machine.host import cpu_environment, this_processor
from pipeline.engine.vllm.engine import environment
from pipeline.errors import UsageError
from pipeline.model.catalogue import MODELS
from pipeline.model.folder import ModelFolder

_WAYS_OUT = ("for a card: RACKMILL_VARIANT=cuda ./infra/setup", "to rehearse it: --device cpu")
_SIZES = ("gemma-3-12b", "gemma-3-4b", "gemma-3-1b")
_SHAPE, _ANSWER = PromptShape(mean=256, longest=2048, shared_prefix=0), 256  # as calibrate's
_LONGEST = 4096  # vLLM by itself would want room for the model's whole context
_CPU_MEMORY = {"kv_cache_memory_bytes": 1 << 30}  # it would want 92 % of the machine's


@dataclass(frozen=True)
class Device:
    """``index``: the driver's number of the card; None: this machine's processor."""

    index: int | None
    card: Card
    name: str
    driver: str = ""

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "driver": self.driver, "known_as": asdict(self.card)}

    def largest_model(self) -> str:
        """Up to 12B, so that it is made and loaded within a minute or two. Raises UsageError."""
        for name in _SIZES:
            if fit(ModelSpec.of(MODELS[name], "int4"), self.card, FitOptions(_LONGEST)).fits:
                return name
        raise UsageError(f"no made-up model fits {self.card}", "give --model gemma-3-270m")


@dataclass(frozen=True)
class Wanted:
    """How the engines are started. ``other_kv``: arguments with the other type of KV cache."""

    model: ModelFolder
    arguments: dict[str, Any]
    predicted: dict[str, Any]
    environment: dict[str, str]
    bare_environment: dict[str, str]
    as_it_comes: dict[str, Any]
    other_kv: dict[str, Any] | None
    why_no_other_kv: str = ""

    @property
    def blocks(self) -> int:
        """Of the KV cache, as foretold, vLLM's null block included."""
        return int(self.predicted["blocks"])

    @property
    def bytes_in_all(self) -> int:
        """Of the card's memory, as foretold."""
        return sum(self.predicted[f"{of}_bytes"] for of in ("weights", "overhead", "kv"))


def find_device(asked: str, index: int | None) -> Device:
    """``asked``: cuda, cpu, or auto: a card where there is one. ``index``: the driver's number of
    it; None: the first. Raises UsageError: no such card, or a vLLM that cannot use it."""
    there = offer()
    if asked == "cpu" or (asked == "auto" and there.build == CPU and not gpus()):
        return _processor(there.build)
    if not there.gpus:
        reason, *others = [*there.left, "no NVIDIA GPU is to be seen"]
        raise UsageError(f"no card to measure: {reason}", *others[:-1], *_WAYS_OUT)
    there.check()
    chosen = next((gpu for gpu in there.gpus if index in (None, gpu.index)), None)
    if chosen is None:
        numbers = ", ".join(str(gpu.index) for gpu in there.gpus)
        raise UsageError(f"--card {index}: engines could run on {numbers}")
    return Device(chosen.index, chosen.card, chosen.name, chosen.driver)


def _processor(build: str | None) -> Device:
    if build != CPU:
        raise UsageError(
            "--device cpu: vLLM's build for the processor is not installed",
            "RACKMILL_VARIANT=cpu ./infra/setup",
        )
    card = this_processor()
    return Device(None, card, card.title)


def wanted(device: Device, model: ModelFolder, settings: Sequence[str]) -> Wanted:
    """Settings as for a job with prompts of 256 and answers of up to 256 tokens; ``settings``:
    lines like ``engine.max_num_seqs=64``. Raises UsageError: it does not fit."""
    given = job_from(job(model.name, {}), settings).engine.vllm_arguments()
    card, on_card = device.card, device.index is not None
    weights = weight_bytes(model.geometry, model.precision)
    arguments = _choose(model, card, given)
    there = memory_split(model.geometry, weights, card, setup_of(arguments, card))
    if there.num_gpu_blocks < 1:
        raise UsageError(f"{model.name} does not fit {card}", "a smaller --model")
    predicted = {
        "blocks": int(arguments.get("num_gpu_blocks_override", there.num_gpu_blocks)),
        "weights_bytes": there.weights_bytes,
        "overhead_bytes": there.overhead.total,
        "kv_bytes": there.kv_bytes,
        "usable_bytes": there.usable_bytes,
    }
    # with the core in a process of its own, as on a card, in a rehearsal too
    own = environment(gpu=on_card, eager=bool(arguments.get("enforce_eager")), core="own")
    bare = {"VLLM_LOGGING_LEVEL": "WARNING", "HF_HUB_OFFLINE": "1"}
    where = {"CUDA_VISIBLE_DEVICES": str(device.index), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    extra = where if on_card else cpu_environment(0, 1)
    other, why = _other_kv(model, card, given, arguments)
    return Wanted(
        model,
        arguments,
        predicted,
        own | extra,
        bare | (where if on_card else {}),
        {"max_model_len": _LONGEST} | ({} if on_card else _CPU_MEMORY),
        other,
        why,
    )


def _choose(model: ModelFolder, card: Card, given: Mapping[str, Any]) -> dict[str, Any]:
    weights = weight_bytes(model.geometry, model.precision)
    chosen = choose_settings(model.geometry, weights, card, _SHAPE, _ANSWER, given)
    return chosen.arguments


def _other_kv(
    model: ModelFolder, card: Card, given: Mapping[str, Any], chosen: Mapping[str, Any]
) -> tuple[dict[str, Any] | None, str]:
    if "kv_cache_dtype" in given:
        return None, "the type of the KV cache was given"
    if not card.has_fp8_kv:
        return None, f"{card.title} has no fp8"
    other = "auto" if str(chosen.get("kv_cache_dtype", "auto")).startswith("fp8") else "fp8"
    return _choose(model, card, {**given, "kv_cache_dtype": other}), ""
