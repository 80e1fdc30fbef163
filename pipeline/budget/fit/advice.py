"""What would fit where something does not, and what would help where it is tight. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

from pipeline.budget.cards.lookup import CARDS, in_slot
from pipeline.budget.fit.assess import Fit, bare_fit, longest_context, words
from pipeline.budget.model_spec import FitOptions, ModelSpec
from pipeline.errors import UsageError
from pipeline.model.catalogue import MODELS, CatalogueModel, Precision

_MOST = 3
_USEFUL_CONTEXT = 256  # tokens; a shorter one is no advice
_HYBRID_GAIN = 1.02
_SHORT = 512
# what a job may have given that stands against it
_OF_MEMORY = (
    *("attention_backend", "dtype", "gpu_memory_utilization", "kv_cache_memory_bytes"),
    *("num_gpu_blocks_override", "max_num_seqs", "max_num_batched_tokens", "tensor_parallel_size"),
)
_TOGETHER = {2: "two", 4: "four", 8: "eight"}


def advise(asked: Fit, options: FitOptions) -> Iterator[str]:
    """The nearest things that would fit, or the levers where the KV cache is the limit."""
    found = _levers(asked, options) if asked.fits else _nearest(asked, options)
    for _, line in zip(range(_MOST), found, strict=False):
        yield line


def refusal(asked: Fit) -> UsageError | None:
    """The error for a job that cannot fit; None where it fits."""
    if asked.fits:
        return None
    near = f"would fit: {' · '.join(asked.advice)}" if asked.advice else ""
    return UsageError(asked.headline, asked.reason, *([near] if near else []))


def _nearest(asked: Fit, options: FitOptions) -> Iterator[str]:
    model, card = asked.model, asked.card
    if options.kv_dtype.startswith("fp8") and not card.has_fp8_kv:
        options = replace(options, kv_dtype="bf16")
        yield from _says("KV cache in bf16", bare_fit(model, card, options))
    if (options.context or 0) > model.geometry.context:
        options = replace(options, context=model.geometry.context)
        yield from _says("a shorter context", bare_fit(model, card, options))
    if asked.vision:
        text_only = bare_fit(model, card, replace(options, vision=False))
        yield from _says("text only", text_only)
    if card.is_cpu and options.given.get("cpu_compute") == "bf16":
        packed = replace(options, given={**options.given, "cpu_compute": "int4"})
        yield from _says("computed from int4, cpu_compute: int4", bare_fit(model, card, packed))
    if options.kv_dtype == "bf16" and card.has_fp8_kv and not card.is_cpu:
        fp8 = bare_fit(model, card, replace(options, kv_dtype="fp8"))
        yield from _says("KV cache in fp8", fp8)
    for name in _OF_MEMORY:
        if name in options.given:
            open_ = {n: v for n, v in options.given.items() if n != name}
            yield from _says(
                f"engine.{name} left out", bare_fit(model, card, replace(options, given=open_))
            )
    if not asked.unsupported and (longest := longest_context(asked) // 64 * 64) >= _USEFUL_CONTEXT:
        yield f"requests of up to {words(longest)} tokens"
    yield from _smaller(asked, options)
    yield from _more_cards(asked, options)
    larger = _larger_card(asked, options)
    if larger:
        yield larger


def _says(what: str, other: Fit) -> Iterator[str]:
    if other.fits:
        held = other.max_requests[other.context]
        yield f"{what}: {held} × {words(other.context)} tokens at once"


def _more_cards(asked: Fit, options: FitOptions) -> Iterator[str]:
    """The same over several such cards of one machine, which `run` does by itself where they are
    there and nothing else is given."""
    card = asked.card
    if not card.has_bf16 or card.is_cpu or card.is_laptop:
        return
    for cards, word in _TOGETHER.items():
        if cards > asked.cards or asked.unsupported:
            over = bare_fit(asked.model, card, replace(options, cards=cards))
            if over.fits:
                said = f"{word} such cards in one machine (tensor_parallel_size {cards})"
                yield from _says(said, over)
                return


def _smaller(asked: Fit, options: FitOptions) -> Iterator[str]:
    """The same model in fewer bits, and the next smaller one in int4."""
    model = asked.model
    own = MODELS.get(model.name)
    fewer_bits: tuple[Precision, ...] = get_args(Precision)
    if own is not None:
        for precision in fewer_bits[fewer_bits.index(model.precision) + 1 :]:
            other = bare_fit(ModelSpec.of(own, precision), asked.card, options)
            if other.fits:
                yield from _says(f"{own.title} {precision}", other)
                break
    for lighter in sorted(MODELS.values(), key=_size, reverse=True):
        if _size(lighter) < model.geometry.layers * model.geometry.hidden:
            other = bare_fit(ModelSpec.of(lighter, "int4"), asked.card, options)
            if other.fits:
                yield from _says(f"{lighter.title} int4", other)
                break


def _size(model: CatalogueModel) -> int:
    return model.geometry.layers * model.geometry.hidden


def _larger_card(asked: Fit, options: FitOptions) -> str:
    """The smallest known card that takes the model, a gaming card if there is one."""
    card = asked.card
    known = [c for c in CARDS.values() if c.vram_gb > card.vram_gb or not card.has_bf16]
    if asked.cards > 1:
        known = [c for c in known if not c.is_laptop]
    fitting = [c for c in known if bare_fit(asked.model, c, options).fits]
    if not fitting:
        return ""
    one = min(fitting, key=lambda c: (c.vram_gb, "RTX" not in c.title, c.compute_capability))
    model = f"{asked.model.title} {asked.model.precision}"
    if asked.cards > 1:
        return f"{model} on {in_slot(one.title, asked.cards)}"
    return f"{model} on {one.vram_gb:g} GB ({one.title})"


def _levers(asked: Fit, options: FitOptions) -> Iterator[str]:
    """What would hold more requests, while the card could serve them."""
    held = asked.max_requests[asked.context]
    if held >= asked.knee:
        return
    model, card = asked.model, asked.card

    def more(words_: str, other: Fit) -> Iterator[str]:
        if other.fits and other.max_requests[asked.context] > held:
            yield f"{words_}: {other.max_requests[asked.context]} at once instead of {held}"

    if asked.vision:
        yield from more("text only", bare_fit(model, card, replace(options, vision=False)))
    if asked.kv_dtype == "bf16" and card.has_fp8_kv and not card.is_cpu:
        yield from more("KV cache in fp8", bare_fit(model, card, replace(options, kv_dtype="fp8")))
    off = replace(asked.layout, hybrid=False)
    with_it = asked.layout.blocks(_SHORT) * asked.layout.block_bytes
    gain = with_it / (off.blocks(_SHORT) * off.block_bytes)
    if asked.layout.hybrid and gain > _HYBRID_GAIN:
        limit = _hybrid_limit(asked)
        yield (
            f"jobs under {words(limit)} tokens a request: hybrid manager off holds "
            f"{(gain - 1) * 100:.1f} % more (chosen by itself for such jobs)"
        )


def _hybrid_limit(asked: Fit) -> int:
    """Tokens up to which a request takes less memory without the hybrid manager."""
    on, off = asked.layout, replace(asked.layout, hybrid=False)
    step = on.block_size
    tokens = step
    while off.blocks(tokens) * off.block_bytes < on.blocks(tokens) * on.block_bytes:
        tokens += step
    return tokens - step
