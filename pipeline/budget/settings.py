"""Engine arguments for what a job leaves open, each with its reason. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.budget.cards import GIB, Card
from pipeline.budget.kv import KvLayout
from pipeline.budget.overhead import memory_share
from pipeline.budget.roofline import knee
from pipeline.budget.room import CPU_BLOCK_SIZE, Room, Setup, kv_layout, room
from pipeline.budget.weights import Weights
from pipeline.model.geometry import Geometry
from pipeline.spec.job import Score

_CPU_KV_BYTES = GIB
_CPU_MAX_NUM_SEQS = 256
_CPU_CHUNK = 2048
_CHUNK, _LARGE_CHUNK, _LARGE_CARD = 2048, 8192, 40 * GIB
_SMALL_CHUNKS = (1024, 512)
_SCORED_CHUNK = 512
_MAX_NUM_SEQS, _STEP = 256, 8
_SPARE_SEQS = 1.25  # the cache is to be the limit, not the number of requests
_WORTH_IT = 1.05  # a setting off its default must hold this many times the requests
_UNSEEN_SHARE = 0.25
_UNSEEN = 4  # rows that were not sampled may be so many times as long as the longest sampled
_SHORTEST_CONTEXT = 4096
_CERTAIN = 0.9  # of the KV cache: vLLM measures, and may find a little less than predicted
GIVEN = "given"


@dataclass(frozen=True)
class PromptShape:
    """What a sample of the job's prompts looks like, in tokens."""

    mean: float
    longest: int
    shared_prefix: int


@dataclass(frozen=True)
class EngineChoice:
    """``arguments``: for ``vllm.EngineArgs``. ``reasons``: argument -> why, in words."""

    arguments: dict[str, Any]
    reasons: dict[str, str] = field(default_factory=dict)


def choose_settings(
    geometry: Geometry,
    weights: Weights,
    card: Card,
    shape: PromptShape,
    max_tokens: int,
    given: Mapping[str, Any],
    overhead_correction: int | None = None,
    expected_tokens: float | None = None,
) -> EngineChoice:
    """Arguments for one engine on ``card``: ``given`` ones as they are, the others chosen.

    ``max_tokens``: the longest answer. ``expected_tokens``: an answer in the mean, if known;
    else a quarter of the longest, for the engine's limits must not be what holds it back (how
    many requests really run is decided while they do). ``overhead_correction``: bytes that an
    engine on such a card last reported. What cannot work is not found here: see
    ``pipeline.budget.fit``.
    """
    if card.is_cpu:
        return _cpu_choice(geometry, weights, shape, max_tokens, given, card.vram_bytes)
    if expected_tokens is None:
        expected_tokens = max_tokens * _UNSEEN_SHARE
    return _GpuChooser(
        geometry, weights, card, shape, max_tokens, expected_tokens, given, overhead_correction
    ).go()


def setup_of(
    arguments: Mapping[str, Any], card: Card, overhead_correction: int | None = None
) -> Setup:
    """What of ``arguments`` decides about memory."""
    dtype = str(arguments.get("kv_cache_dtype", "auto"))
    share = arguments.get("gpu_memory_utilization")
    plain = "fp32" if arguments.get("dtype") == "float32" else "bf16"
    return Setup(
        kv_dtype="fp8" if dtype.startswith("fp8") else plain,
        vision=not arguments.get("language_model_only", True),
        hybrid=not arguments.get("disable_hybrid_kv_cache_manager", False),
        chunk=int(arguments.get("max_num_batched_tokens", default_chunk(card))),
        max_num_seqs=int(arguments.get("max_num_seqs", _MAX_NUM_SEQS)),
        share=float(share) if share is not None else None,
        block_size=arguments.get("block_size"),
        eager=bool(arguments.get("enforce_eager", False)),
        cards=int(arguments.get("tensor_parallel_size", 1)),
        kv_bytes=arguments.get("kv_cache_memory_bytes"),
        offloaded_bytes=int(float(arguments.get("cpu_offload_gb") or 0) * GIB),
        overhead_correction=overhead_correction,
    )


def scoring_arguments(score: Score, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of an engine that scores, beside ``given`` ones.

    Each position of a prompt is then turned into probabilities over the whole vocabulary, in
    float32 on top of the model's own type: 1.5 MiB a token for Gemma 3. So a step takes fewer
    tokens than it otherwise would (``max_num_seqs`` may not be above them).
    """
    chunk = max(_SCORED_CHUNK, given.get("max_num_seqs", 0))
    return {"max_logprobs": score.top_k or 1, "max_num_batched_tokens": chunk}


def default_chunk(card: Card) -> int:
    """max_num_batched_tokens where nothing else is said, tokens."""
    if card.is_cpu:
        return _CPU_CHUNK
    return _LARGE_CHUNK if card.vram_bytes >= _LARGE_CARD else _CHUNK


class _GpuChooser:
    """Carries what was chosen so far from one choice to the next."""

    def __init__(
        self,
        geometry: Geometry,
        weights: Weights,
        card: Card,
        shape: PromptShape,
        max_tokens: int,
        expected_tokens: float,
        given: Mapping[str, Any],
        overhead_correction: int | None,
    ) -> None:
        self.geometry, self.weights, self.card = geometry, weights, card
        # those that run together are, in the mean, halfway through their answers
        self.mean = max(1, round(shape.mean + expected_tokens / 2))
        self.longest = max(shape.longest + max_tokens, self.mean)
        self.shared = shape.shared_prefix
        self.given = given
        self.correction = overhead_correction
        self.arguments = dict(given)
        self.reasons = dict.fromkeys(given, GIVEN)

    def go(self) -> EngineChoice:
        self._share()
        self._text_only()
        self._kv_dtype()
        self._chunk()
        self._max_num_seqs()
        self._hybrid()
        self._max_model_len()
        return EngineChoice(self.arguments, self.reasons)

    def _choose(self, name: str, value: Any, reason: str) -> None:
        if name not in self.given:
            self.arguments[name] = value
            self.reasons[name] = reason

    def _room(self, **changes: Any) -> Room:
        setup = replace(setup_of(self.arguments, self.card, self.correction), **changes)
        return room(self.geometry, self.weights, self.card, setup)

    def _requests(self, **changes: Any) -> int:
        """Requests of the job's mean size at once."""
        there = self._room(**changes)
        blocks = self.given.get("num_gpu_blocks_override", there.num_blocks)
        return there.layout.requests(blocks, self.mean, self.shared)

    def _share(self) -> None:
        share = memory_share(self.card)
        free = (1 - share) * self.card.vram_bytes / GIB
        self._choose(
            "gpu_memory_utilization", share, f"leaves {free:.1f} GiB for the driver and a desktop"
        )

    def _text_only(self) -> None:
        if self.weights.vision_bytes:
            spared = self.weights.vision_bytes / 1e9
            self._choose(
                "language_model_only", True, f"no images: {spared:.1f} GB for the KV cache"
            )

    def _chunk(self) -> None:
        usual = default_chunk(self.card)
        sizes = [usual, *(size for size in _SMALL_CHUNKS if size < usual)]
        fitting = (c for c in sizes if self._requests_of(self.longest, chunk=c, max_num_seqs=_STEP))
        chunk = next(fitting, usual)
        reason = (
            f"enough to keep the card's arithmetic busy (knee: {self._knee} tokens), "
            "and activations grow with it"
        )
        if chunk < usual:
            reason = f"{usual} would leave no room for a request of {self.longest} tokens"
        self._choose("max_num_batched_tokens", chunk, reason)

    @property
    def _knee(self) -> int:
        return knee(self.geometry, self.weights.text_bytes, self.card)

    def _kv_dtype(self) -> None:
        if not self.card.has_fp8_kv:
            reason = f"{self.card.title} has no fp8 (Ada or newer has)"
            self._choose("kv_cache_dtype", "auto", f"bf16: {reason}")
            return
        few = replace(setup_of(self.arguments, self.card, self.correction), max_num_seqs=_STEP)
        there = room(self.geometry, self.weights, self.card, few)
        held = there.layout.requests(there.num_blocks, self.mean, self.shared)
        if held >= self._knee:
            reason = f"bf16: {held} requests fit at once, more than the card's knee of {self._knee}"
            self._choose("kv_cache_dtype", "auto", reason)
        else:
            half = room(self.geometry, self.weights, self.card, replace(few, kv_dtype="fp8"))
            more = half.layout.requests(half.num_blocks, self.mean, self.shared)
            reason = f"{more} requests at once instead of {held} in bf16"
            self._choose("kv_cache_dtype", "fp8", reason)

    def _max_num_seqs(self) -> None:
        held = self._requests(max_num_seqs=_STEP)
        wanted = -(-int(held * _SPARE_SEQS + 1) // _STEP) * _STEP
        chosen = min(_MAX_NUM_SEQS, wanted)
        reason = f"{held} requests of {self.mean} tokens fit the KV cache"
        if chosen < wanted:
            reason += f"; beyond {_MAX_NUM_SEQS} the card gains nothing"
        self._choose("max_num_seqs", chosen, reason)

    def _hybrid(self) -> None:
        on, off = self._requests(hybrid=True), self._requests(hybrid=False)
        if off > on * _WORTH_IT and self._requests_of(self.longest, hybrid=False):
            self._choose(
                "disable_hybrid_kv_cache_manager",
                True,
                f"for {self.mean} tokens: {off} requests at once without it, {on} with it "
                "(it pads layers)",
            )

    def _requests_of(self, tokens: int, **changes: Any) -> int:
        there = self._room(**changes)
        return there.layout.requests(there.num_blocks, tokens)

    def _max_model_len(self) -> None:
        there = self._room()
        blocks = self.given.get("num_gpu_blocks_override", int(there.num_blocks * _CERTAIN))
        fitting = longest_request(there.layout, blocks - 1)
        roomy = max(_SHORTEST_CONTEXT, _UNSEEN * self.longest)
        roomy = min(-(-roomy // 256) * 256, self.geometry.context)
        if roomy <= fitting:
            reason = f"room for requests longer than the longest known one, {self.longest} tokens"
            self._choose("max_model_len", roomy, reason)
        elif fitting >= 16:
            reason = f"what the KV cache holds (the model's context: {self.geometry.context})"
            self._choose("max_model_len", fitting, reason)
        else:
            self._choose("max_model_len", -1, "vLLM fits it to the memory it finds")


def _cpu_choice(
    geometry: Geometry,
    weights: Weights,
    shape: PromptShape,
    max_tokens: int,
    given: Mapping[str, Any],
    ram_bytes: int,
) -> EngineChoice:
    longest = replace(shape, longest=shape.longest + max_tokens)
    arguments = cpu_arguments(geometry, dict(given), longest, ram_bytes)
    if weights.vision_bytes:
        arguments.setdefault("language_model_only", True)
    reasons = {
        "enforce_eager": "compiling takes a minute and a C++ compiler for a gain of a tenth",
        "block_size": "small blocks lose the least of a shared prefix; CPU kernels take 32s",
        "max_num_seqs": "the KV cache is the limit",
        "max_num_batched_tokens": "vLLM's default for a CPU is no faster",
        "kv_cache_memory_bytes": "1 GiB, or what the longest request needs, up to a quarter of RAM",
        "max_model_len": "the model's context, or what the KV cache holds of it",
        "language_model_only": "no images",
    }
    return EngineChoice(
        arguments, {name: GIVEN if name in given else reasons.get(name, "") for name in arguments}
    )


def cpu_arguments(
    geometry: Geometry, given: dict[str, Any], shape: PromptShape, ram_bytes: int
) -> dict[str, Any]:
    """vLLM arguments for an engine on CPU: ``given`` ones as they are, the others chosen.

    - ``enforce_eager``: compiling takes a minute and a C++ compiler for a gain of a tenth.
    - ``block_size`` 32: the prefix cache works in whole blocks, so small ones lose the least of
      a shared prefix; the CPU kernels take multiples of 32 (vLLM's default there is 128).
    - ``kv_cache_memory_bytes``: 1 GiB (clearing memory costs 1.5 s a GiB at start), more if the
      longest sampled prompt needs it, at most a quarter of the RAM.
    - ``max_model_len``: the model's context, or what the KV cache can hold of it.
    """
    chosen: dict[str, Any] = {
        "enforce_eager": True,
        "block_size": CPU_BLOCK_SIZE,
        "max_num_seqs": _CPU_MAX_NUM_SEQS,
        "max_num_batched_tokens": _CPU_CHUNK,
    } | given
    layout = kv_layout(geometry, _A_CPU, setup_of(chosen, _A_CPU))
    if "kv_cache_memory_bytes" not in chosen:
        needed = 2 * layout.prefill_blocks(shape.longest) * layout.block_bytes
        chosen["kv_cache_memory_bytes"] = max(_CPU_KV_BYTES, min(needed, ram_bytes // 4))
    if "max_model_len" not in chosen:
        blocks = chosen.get(
            "num_gpu_blocks_override", layout.num_blocks(chosen["kv_cache_memory_bytes"])
        )
        chosen["max_model_len"] = longest_request(layout, blocks - 1)
    return chosen


def gpu_arguments(given: dict[str, Any]) -> dict[str, Any]:
    """vLLM arguments for a GPU of which nothing is known: vLLM fits the context to it."""
    return {"max_model_len": -1} | given


def longest_request(layout: KvLayout, blocks: int) -> int:
    """The most tokens, up to the model's context, whose prefill fits ``blocks``."""
    low, high = 0, layout.geometry.context
    while low < high:
        middle = (low + high + 1) // 2
        if layout.prefill_blocks(middle) <= blocks:
            low = middle
        else:
            high = middle - 1
    return low


_A_CPU = Card("cpu", "CPU", 0, 0, 0.0, 0.0, 0.0, (0, 0), is_cpu=True)
