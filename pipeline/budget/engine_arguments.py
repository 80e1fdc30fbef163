"""Engine arguments for what a job leaves open, each with its reason. Pure arithmetic."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.budget.attention import BACKEND, FP8_CACHE, attention_backend_for, wrong_backend
from pipeline.budget.buckets import SEQUENCES, context_for, logprobs_for, sequences_for
from pipeline.budget.cards.lookup import GIB, Card
from pipeline.budget.cpu_compute import choose_compute
from pipeline.budget.kv_layout import KvLayout
from pipeline.budget.memory_split import (
    CPU_BLOCK_SIZE,
    MemorySplit,
    Setup,
    kv_layout,
    memory_split,
    share_of,
)
from pipeline.budget.roofline import knee
from pipeline.budget.weights import Weights
from pipeline.job.job import Score
from pipeline.model.geometry import Geometry

_CPU_KV_BYTES = GIB
_CPU_MAX_NUM_SEQS = 256
_CPU_CHUNK = 2048
_CHUNK, _LARGE_CHUNK, _LARGE_CARD = 2048, 8192, 40 * GIB
_SMALL_CHUNKS = (1024, 512)
_SCORED_CHUNK = 512
_MAX_NUM_SEQS = 256  # where nothing is said: what vLLM takes, or more
_WORTH_IT = 1.05  # a setting off its default must hold this many times the requests
_UNSEEN_SHARE = 0.25
_UNSEEN_MOST = 256  # tokens: a limit that is never met says nothing
_UNSEEN = 4  # rows that were not sampled may be so many times as long as the longest sampled
_CERTAIN = 0.9  # of the KV cache: vLLM measures, and may find a little less than predicted
GIVEN = "given"
_NO_HYBRID = "disable_hybrid_kv_cache_manager"


@dataclass(frozen=True)
class PromptShape:
    """What a sample of the job's prompts looks like, in tokens."""

    mean: float
    longest: int
    shared_prefix: int


@dataclass(frozen=True)
class EngineChoice:
    """``arguments``: for ``vllm.EngineArgs``. ``reasons``: argument -> why, in words.

    ``requests``: of ``request_tokens`` (the job's, halfway through their answers) that the KV
    cache then holds at once; 0 where nobody asked.
    """

    arguments: dict[str, Any]
    reasons: dict[str, str] = field(default_factory=dict)
    requests: int = 0
    request_tokens: int = 0


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
    else a quarter of the longest, 256 at most, for the engine's limits must not be what holds it
    back (how many requests really run is decided while they do). ``overhead_correction``: bytes
    that an engine on such a card last reported. What cannot work is not found here: see
    ``pipeline.budget.fit.fit``.
    """
    if card.is_cpu:
        return _cpu_choice(geometry, weights, shape, max_tokens, given, card)
    given = {name: value for name, value in given.items() if name != "cpu_compute"}
    if expected_tokens is None:
        expected_tokens = min(max_tokens * _UNSEEN_SHARE, _UNSEEN_MOST)
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
        scored="max_logprobs" in arguments,
        unpacked=card.is_cpu and arguments.get("cpu_compute") == "bf16",
    )


def with_retention(arguments: Mapping[str, Any], questions: object) -> Mapping[str, Any]:
    """``arguments``, with what vLLM needs if a job has several ``questions`` of a row: else it
    keeps of sliding layers the prompts' last blocks alone, and the next question of a row, which
    ends a block earlier or later, would find none of the row's text."""
    if questions is None or arguments.get("enable_prefix_caching") is False:
        return arguments
    return {"prefix_cache_retention_interval": None, **arguments}


def scoring_arguments(score: Score, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of an engine that scores, beside ``given`` ones.

    Each position of a prompt is then turned into probabilities over the whole vocabulary: half a
    MiB a token for Gemma 3 on a GPU, on a CPU 1.5 (float32 on top of the model's own type). So a
    step takes fewer tokens than it otherwise would (``max_num_seqs`` may not be above them).
    """
    chunk = max(_SCORED_CHUNK, given.get("max_num_seqs", 0))
    return {"max_logprobs": logprobs_for(score.top_k or 1), "max_num_batched_tokens": chunk}


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
        self._between_cards()
        self._text_only()
        self._kv_dtype()
        self._hybrid()
        self._attention()
        self._chunk()
        self._max_num_seqs()
        self._share()
        self._max_model_len()
        return EngineChoice(self.arguments, self.reasons, self._requests(), self.mean)

    def _choose(self, name: str, value: Any, reason: str) -> None:
        if name not in self.given:
            self.arguments[name] = value
            self.reasons[name] = reason

    def _memory_split(self, **changes: Any) -> MemorySplit:
        setup = setup_of(self.arguments | changes, self.card, self.correction)
        return memory_split(self.geometry, self.weights, self.card, setup)

    def _requests(self, **changes: Any) -> int:
        """Requests of the job's mean size at once."""
        there = self._memory_split(**changes)
        blocks = self.given.get("num_gpu_blocks_override", there.num_gpu_blocks)
        return there.layout.requests(blocks, self.mean, self.shared)

    def _would_hold(self, **changes: Any) -> int:
        """The same when all that is still open is chosen for such ``changes``: what is said of a
        choice is so what comes of it."""
        changes = {n: v for n, v in changes.items() if n not in self.given}
        changes["max_num_batched_tokens"] = self._fitting_chunk(**changes)
        changes["max_num_seqs"] = self._fitting_sequences(**changes)
        return self._requests(**changes)

    def _fitting_chunk(self, **changes: Any) -> int:
        usual = default_chunk(self.card)
        if "max_num_batched_tokens" in self.arguments:
            return int(self.arguments["max_num_batched_tokens"])
        sizes = [usual, *(size for size in _SMALL_CHUNKS if size < usual)]
        few = {"max_num_seqs": SEQUENCES[0]} | self.arguments | changes

        def fits(size: int) -> bool:
            return self._requests_of(self.longest, **few | {"max_num_batched_tokens": size}) > 0

        return next((size for size in sizes if fits(size)), usual)

    def _fitting_sequences(self, **changes: Any) -> int:
        if "max_num_seqs" in self.arguments:
            return int(self.arguments["max_num_seqs"])
        return sequences_for(lambda number: self._requests(**changes | {"max_num_seqs": number}))

    def _between_cards(self) -> None:
        """vLLM's own all-reduce writes into other cards' memory over PCIe where the driver says
        that it may: where it may not after all, engines hang (vLLM #51513). NCCL takes a detour."""
        if setup_of(self.arguments, self.card).cards > 1:
            reason = "cards exchange through NCCL, which works on every board"
            self._choose("disable_custom_all_reduce", True, reason)

    def _text_only(self) -> None:
        if self.weights.vision_bytes:
            spared = self.weights.vision_bytes / 1e9
            self._choose(
                "language_model_only", True, f"no images: {spared:.1f} GB for the KV cache"
            )

    @property
    def _knee(self) -> int:
        return knee(self.geometry, self.weights.text_bytes, self.card)

    def _kv_dtype(self) -> None:
        if not self.card.has_fp8_kv:
            reason = f"{self.card.title} has no fp8 (Ada or newer has)"
            self._choose("kv_cache_dtype", "auto", f"bf16: {reason}")
            return
        if wrong_backend(self.card, {**self.arguments, **FP8_CACHE, **self.given}):
            self._choose("kv_cache_dtype", "auto", f"bf16: {self.given[BACKEND]} has no fp8")
            return
        held, _ = self._with_best_hybrid(kv_cache_dtype="auto")
        if held >= self._knee:
            reason = f"bf16: {held} requests fit at once, more than the card's knee of {self._knee}"
            self._choose("kv_cache_dtype", "auto", reason)
        else:
            more, _ = self._with_best_hybrid(kv_cache_dtype="fp8")
            reason = f"{more} requests at once instead of {held} in bf16"
            self._choose("kv_cache_dtype", "fp8", reason)

    def _with_best_hybrid(self, **changes: Any) -> tuple[int, bool]:
        """Requests at once with such ``changes``, and whether the hybrid manager is then on."""
        on, off = (self._would_hold(**changes, **{_NO_HYBRID: no}) for no in (False, True))
        chunk = self._fitting_chunk(**changes, **{_NO_HYBRID: True})
        without = {_NO_HYBRID: True, "max_num_batched_tokens": chunk}
        longest = self._requests_of(
            self.longest, **{"max_num_seqs": SEQUENCES[0]} | changes | without
        )
        most = SEQUENCES[-1]  # at once, so more than that is worth nothing
        worth_it = min(off, most) > min(on, most) * _WORTH_IT and longest > 0
        return (off, False) if worth_it else (on, True)

    def _hybrid(self) -> None:
        held, on = self._with_best_hybrid()
        if not on:
            with_it = self._would_hold(**{_NO_HYBRID: False})
            self._choose(
                _NO_HYBRID,
                True,
                f"for {self.mean} tokens: {held} requests at once without it, {with_it} with it "
                "(it pads layers)",
            )

    def _attention(self) -> None:
        self._choose(BACKEND, *attention_backend_for(self.arguments))

    def _chunk(self) -> None:
        usual, chunk = default_chunk(self.card), self._fitting_chunk()
        reason = (
            f"enough to keep the card's arithmetic busy (knee: {self._knee} tokens), "
            "and activations grow with it"
        )
        if chunk < usual:
            reason = f"{usual} would leave no room for a request of {self.longest} tokens"
        self._choose("max_num_batched_tokens", chunk, reason)

    def _max_num_seqs(self) -> None:
        chosen = self._fitting_sequences()
        held = self._requests(max_num_seqs=chosen)
        reason = f"{held} requests of {self.mean} tokens fit the KV cache"
        if held >= chosen == SEQUENCES[-1]:
            reason += f"; beyond {chosen} the card gains nothing"
        self._choose("max_num_seqs", chosen, reason)

    def _share(self) -> None:
        share = share_of(self.geometry, self.card, setup_of(self.arguments, self.card))
        free = (1 - share) * self.card.vram_bytes / GIB
        reason = f"leaves {free:.1f} GiB for the driver, a desktop and sampling"
        self._choose("gpu_memory_utilization", share, reason)

    def _requests_of(self, tokens: int, **changes: Any) -> int:
        there = self._memory_split(**changes)
        return there.layout.requests(there.num_gpu_blocks, tokens)

    def _max_model_len(self) -> None:
        there = self._memory_split()
        blocks = self.given.get("num_gpu_blocks_override", int(there.num_gpu_blocks * _CERTAIN))
        fitting = longest_request(there.layout, blocks - 1)
        most = self.geometry.context
        wanted = min(_UNSEEN * self.longest, most)
        length = context_for(wanted, min(self.longest, most), fitting, most)
        if not length:
            self._choose("max_model_len", -1, "vLLM fits it to the memory it finds")
        elif length >= wanted:
            reason = f"room for requests longer than the longest known one, {self.longest} tokens"
            self._choose("max_model_len", length, reason)
        else:
            reason = f"what the KV cache holds (the model's context: {most})"
            self._choose("max_model_len", length, reason)


def _cpu_choice(
    geometry: Geometry,
    weights: Weights,
    shape: PromptShape,
    max_tokens: int,
    given: Mapping[str, Any],
    card: Card,
) -> EngineChoice:
    longest = replace(shape, longest=shape.longest + max_tokens)
    arguments = cpu_arguments(geometry, dict(given), longest, card.vram_bytes)
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
    compute = choose_compute(geometry, weights, card, setup_of(arguments, card), given)
    arguments.pop("cpu_compute", None)
    if compute is not None:
        arguments["cpu_compute"], reasons["cpu_compute"] = compute
    return EngineChoice(
        arguments, {name: GIVEN if name in given else reasons.get(name, "") for name in arguments}
    )


def cpu_arguments(
    geometry: Geometry, given: dict[str, Any], shape: PromptShape, ram_bytes: int
) -> dict[str, Any]:
    """vLLM arguments for an engine on CPU: ``given`` ones as they are, the others chosen.

    - ``enforce_eager``: compiling takes a minute and a C++ compiler for a gain of a tenth.
    - ``block_size`` 32: rows that begin side by side find whole blocks of a shared prefix alone, so
      small ones lose the least of it; the CPU kernels take multiples of 32 (vLLM's default there
      is 128).
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
            "num_gpu_blocks_override", layout.num_gpu_blocks(chosen["kv_cache_memory_bytes"])
        )
        chosen["max_model_len"] = longest_request(layout, blocks - 1)
    return chosen


def longest_request(layout: KvLayout, blocks: int) -> int:
    """The most tokens, up to the model's context, whose prefill fits ``blocks``."""
    lengths = range(1, layout.geometry.context + 1)
    return bisect_right(lengths, blocks, key=layout.prefill_blocks)


_A_CPU = Card("cpu", "CPU", 0, 0, 0.0, 0.0, 0.0, (0, 0), is_cpu=True)
