"""Whether a model fits a card, with how many requests at once, and how fast at most. Pure.

`plan`, `fit` and `run` say and refuse with the words made here and in ``advice``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.budget.attention import wrong_backend
from pipeline.budget.cards.lookup import Card
from pipeline.budget.engine_arguments import (
    EngineChoice,
    PromptShape,
    choose_settings,
    longest_request,
    setup_of,
)
from pipeline.budget.kv_layout import KvLayout
from pipeline.budget.memory_split import MemorySplit, memory_split
from pipeline.budget.model_spec import FitOptions, ModelSpec
from pipeline.budget.roofline import decode_tokens_per_second, knee
from pipeline.budget.weights import GROUP_SIZE
from pipeline.model.catalogue import Precision
from pipeline.model.geometry import Geometry

CONTEXTS = (1024, 4096, 8192, 32_768)
_REFERENCE = 1024  # tokens of the request that speed and verdict are about, unless one is named


@dataclass(frozen=True)
class Fit:
    """The answer. Bytes are those of one card. ``num_gpu_blocks`` counts vLLM's null block too.

    ``blocks_per_request``: tokens -> what vLLM's admission charges for one request of that
    length (its "maximum concurrency" is ``num_gpu_blocks`` over that). ``max_requests``: tokens ->
    how many such requests the cache holds at once; all but the last have finished their prefill
    and hold less than they were charged. ``reason``: why it fits or not, in words.
    """

    model: ModelSpec
    card: Card
    cards: int
    context: int
    kv_dtype: str
    vision: bool
    weights_bytes: int
    overhead_bytes: int
    usable_bytes: int
    kv_bytes: int
    block_size: int
    num_gpu_blocks: int
    blocks_per_request: Mapping[int, int]
    max_requests: Mapping[int, int]
    roofline_tokens_per_second: float
    fits: bool
    reason: str
    settings: EngineChoice
    layout: KvLayout
    knee: int  # requests at once up to which the card's arithmetic keeps pace
    overhead_reported: bool = False
    unsupported: bool = False  # no matter of memory
    advice: tuple[str, ...] = ()

    @property
    def precision(self) -> Precision:
        return self.model.precision

    @property
    def headline(self) -> str:
        """One sentence."""
        if self.fits:
            return f"{self.model} fits {self.where}: {self.reason}"
        verb = "cannot run on" if self.unsupported else "does not fit"
        return f"{self.model} {verb} {self.where}"

    @property
    def where(self) -> str:
        """The card, or how many of them."""
        return f"{self.cards}× {self.card} together" if self.cards > 1 else str(self.card)

    def as_json(self) -> dict[str, Any]:
        """The documented keys. Keys of the two dictionaries are tokens."""
        return {
            "model": self.model.name,
            "precision": self.precision,
            "card": self.card.name,
            "context": self.context,
            "kv_dtype": self.kv_dtype,
            "announced_gb": self.model.announced_gb,
            "weights_bytes": self.weights_bytes,
            "overhead_bytes": self.overhead_bytes,
            "kv_bytes": max(0, self.kv_bytes),
            "block_size": self.block_size,
            "num_blocks": self.num_gpu_blocks,
            "blocks_per_request": {str(k): v for k, v in self.blocks_per_request.items()},
            "max_requests": {str(k): v for k, v in self.max_requests.items()},
            "roofline_tokens_per_second": round(self.roofline_tokens_per_second, 1),
            "fits": self.fits,
            "reason": self.reason,
            "advice": list(self.advice),
        }


def bare_fit(model: ModelSpec, card: Card, options: FitOptions) -> Fit:
    """Whether ``model`` fits ``card``; without advice.

    Never raises for what cannot be: the answer says so.
    """
    geometry = model.geometry
    if not model.has_vision:
        options = replace(options, vision=False)
    context = options.context or _REFERENCE
    impossible = _impossible(model, card, options)
    given = options.arguments
    if impossible:  # the numbers are then those of the nearest thing that can be
        odd = ("kv_cache_dtype", "tensor_parallel_size")
        given = {k: v for k, v in given.items() if k not in odd}
    longest = options.context or min(CONTEXTS[-1], geometry.context)
    shape = PromptShape(mean=context, longest=longest, shared_prefix=0)
    correction = options.overhead_correction
    choice = choose_settings(geometry, model.weights, card, shape, 0, given, correction)
    if "disable_hybrid_kv_cache_manager" not in options.given and options.context is None:
        for chosen in (choice.arguments, choice.reasons):
            chosen.pop("disable_hybrid_kv_cache_manager", None)  # open: it is a matter of the job
    setup = setup_of(choice.arguments, card, correction)
    if card.is_cpu and "kv_cache_memory_bytes" not in given:
        setup = replace(setup, kv_bytes=None)  # as much as a job may ask for
    there = memory_split(geometry, model.weights, card, setup)
    blocks = int(given.get("num_gpu_blocks_override", there.num_gpu_blocks))
    lengths = sorted({t for t in (*CONTEXTS, context) if t <= geometry.context})
    held = {t: there.layout.requests(blocks, t) for t in lengths}
    batch = min(held.get(context, 0), int(choice.arguments["max_num_seqs"]))
    fits = not impossible and held.get(context, 0) > 0
    weights = model.weights.unpacked(geometry) if setup.unpacked else model.weights
    at_most = knee(geometry, weights.text_bytes, card)
    return Fit(
        model=model,
        card=card,
        cards=int(options.arguments.get("tensor_parallel_size") or 1),
        context=context,
        kv_dtype=setup.kv_dtype,
        vision=setup.vision and model.has_vision,
        weights_bytes=there.weights_bytes,
        overhead_bytes=there.overhead.total,
        usable_bytes=there.usable_bytes,
        kv_bytes=there.kv_bytes,
        block_size=there.layout.block_size,
        num_gpu_blocks=blocks,
        blocks_per_request={t: there.layout.prefill_blocks(t) for t in lengths},
        max_requests=held if not impossible else dict.fromkeys(held, 0),
        roofline_tokens_per_second=decode_tokens_per_second(
            geometry,
            weights.text_bytes,
            card,
            batch=batch if fits else 0,
            context=context,
            dtype_bytes=there.layout.dtype_bytes,
            cards=1 if card.is_cpu else setup.cards,
        ),
        fits=fits,
        reason=impossible or _reason(model, there, held[context], context, at_most),
        settings=choice,
        layout=there.layout,
        knee=at_most,
        overhead_reported=there.overhead.reported,
        unsupported=bool(impossible),
    )


def _impossible(model: ModelSpec, card: Card, options: FitOptions) -> str:
    """Why no memory in the world would help; "" if nothing stands against it."""
    if not card.has_bf16:
        return (
            f"{card.title} has no bf16, and Gemma 3 overflows in fp16: "
            "it needs an Ampere card (RTX 30) or newer"
        )
    if card.is_cpu and model.precision == "int8":
        return "vLLM has no kernel for int8 weights on a CPU"
    if options.kv_dtype.startswith("fp8") and not card.has_fp8_kv:
        return (
            f"vLLM keeps the KV cache in fp8 on Ada cards (RTX 40) and newer, "
            f"not on {card.title}: use --kv-dtype bf16 (engine.kv_cache_dtype: auto)"
        )
    if why := wrong_backend(card, options.arguments):
        return why
    in_float32 = options.given.get("dtype") == "float32"
    if in_float32 and not card.is_cpu and model.precision != "bf16":
        return f"on a GPU {model.precision} weights compute in bf16: leave engine.dtype out"
    cards = int(options.arguments.get("tensor_parallel_size") or 1)
    if not can_share(model.geometry, model.precision, cards):
        sizes = [n for n in range(2, 9) if can_share(model.geometry, model.precision, n)]
        return (
            f"{model.title} cannot be divided among {cards} cards (tensor_parallel_size): it has "
            f"{model.geometry.query_heads} attention heads and {model.geometry.kv_heads} for keys "
            f"and values; {or_list(sizes)} cards can share them"
        )
    wanted = max(options.context or 0, int(options.given.get("max_model_len") or 0))
    if wanted > model.geometry.context:
        return (
            f"{model.title} knows {words(model.geometry.context)} tokens of context, "
            f"not {words(wanted)}"
        )
    return ""


def can_share(geometry: Geometry, precision: Precision, cards: int) -> bool:
    """Whether so many cards can share each layer: whole heads for each, or one key-value head on
    several (vLLM 0.32 ``ModelConfig.verify_with_parallel_config``, ``QKVParallelLinear``), and
    whole groups of quantized weights (its kernels' ``can_implement``)."""
    heads, kv_heads = geometry.query_heads, geometry.kv_heads
    whole = heads % cards == 0 and (kv_heads % cards == 0 or cards % kv_heads == 0)
    group = 1 if precision == "bf16" else GROUP_SIZE
    inner = (heads * geometry.head_dim, geometry.ffn)
    return whole and all(size % (cards * group) == 0 for size in inner)


def or_list(numbers: Sequence[int]) -> str:
    """ "2, 4 or 8"; "no" for none."""
    if not numbers:
        return "no"
    *most, last = map(str, numbers)
    return f"{', '.join(most)} or {last}" if most else last


def _reason(model: ModelSpec, there: MemorySplit, held: int, context: int, at_most: int) -> str:
    if held:
        some = f"{held} request{'s' if held > 1 else ''} of {words(context)} tokens at once"
        if held < at_most:
            return f"{some}; the KV cache is the limit (the card could serve {at_most})"
        return some
    weights = gb(there.weights_bytes)
    announced = model.announced_gb
    if announced is not None and model.precision != "bf16":
        weights += f" (announced: {announced:g} GB; vLLM keeps the embeddings in bf16)"
    sum_ = f"weights {weights} + {gb(there.overhead.total)} overhead"
    if there.kv_bytes <= 0:
        return f"{sum_} > {gb(there.usable_bytes)} usable"
    needed = there.layout.prefill_blocks(context) * there.layout.block_bytes
    return (
        f"{sum_} leave {gb(there.kv_bytes)} of {gb(there.usable_bytes)} usable for the KV cache; "
        f"one request of {words(context)} tokens needs {gb(needed)}"
    )


def longest_context(of: Fit) -> int:
    """The most tokens that one request could have in the cache of ``of``; 0 for none."""
    return longest_request(of.layout, of.num_gpu_blocks - 1)


def gb(number: float) -> str:
    """Bytes as the announcement has them, 10**9: "8.1 GB"."""
    return f"{number / 1e9:.1f} GB"


def words(tokens: int) -> str:
    """A number of tokens: "1k", "32k", "1 500"."""
    if tokens >= 1024 and tokens % 1024 == 0:
        return f"{tokens // 1024}k"
    return f"{tokens:,}".replace(",", " ")
