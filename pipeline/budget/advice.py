"""What would fit where something does not, and what would help where it is tight. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pipeline.budget.cards import CARDS
from pipeline.budget.fit import Fit, FitOptions, Subject, bare_fit, longest_context, words
from pipeline.errors import UsageError
from pipeline.model.catalogue import MODELS, PRECISIONS

_MOST = 3
_USEFUL_CONTEXT = 256  # tokens; a shorter one is no advice
_HYBRID_GAIN = 1.02
_SHORT = 512


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


def check_fit(asked: Fit) -> None:
    """Raises UsageError when ``asked`` does not fit, in the words of `plan` and `fit`."""
    error = refusal(asked)
    if error is not None:
        raise error


def _nearest(asked: Fit, options: FitOptions) -> Iterator[str]:
    model, card = asked.model, asked.card

    def says(words_: str, other: Fit) -> Iterator[str]:
        if other.fits:
            held = other.max_requests[other.context]
            yield f"{words_} ({held} of {words(other.context)} tokens at once)"

    if options.kv_dtype == "fp8" and not card.has_fp8_kv:
        yield from says("KV cache in bf16", bare_fit(model, card, replace(options, kv_dtype="bf16")))
        options = replace(options, kv_dtype="auto")
    if (options.context or 0) > model.geometry.context:
        options = replace(options, context=model.geometry.context)
        short = bare_fit(model, card, options)
        yield from says(f"a context of {words(model.geometry.context)}", short)
    if asked.vision:
        yield from says("text only", bare_fit(model, card, replace(options, vision=False)))
    if options.kv_dtype == "bf16" and card.has_fp8_kv:
        yield from says("KV cache in fp8", bare_fit(model, card, replace(options, kv_dtype="fp8")))
    if not asked.unsupported and (longest := longest_context(asked) // 64 * 64) >= _USEFUL_CONTEXT:
        yield f"requests of up to {words(longest)} tokens"
    yield from _smaller(asked, options, says)
    if not card.is_cpu and card.has_bf16 and asked.cards == 1:
        two = bare_fit(model, card, replace(options, cards=2))
        yield from says("two such cards (engine.tensor_parallel_size: 2)", two)
    larger = sorted(
        (c for c in CARDS.values() if c.vram_bytes > card.vram_bytes or not card.has_bf16),
        key=lambda c: (c.vram_bytes, c.watts),
    )
    on = next((c for c in larger if bare_fit(model, c, options).fits), None)
    if on is not None:
        yield f"{model.title} {model.precision} on {on.vram_gb:g} GB or more ({on.title})"


def _smaller(asked: Fit, options: FitOptions, says) -> Iterator[str]:  # type: ignore[no-untyped-def]
    """The same model in fewer bits, else the next smaller one that fits."""
    model = asked.model
    known = MODELS.get(model.name)
    if known is not None:
        for precision in PRECISIONS[PRECISIONS.index(model.precision) + 1 :]:  # type: ignore[arg-type]
            other = bare_fit(Subject.of(known, precision), asked.card, options)
            if other.fits:
                yield from says(f"{known.title} {precision}", other)
                break
    lighter = [
        m for m in MODELS.values() if m.geometry.layers * m.geometry.hidden
        < model.geometry.layers * model.geometry.hidden
    ]  # fmt: skip
    for smaller in sorted(lighter, key=lambda m: -m.geometry.hidden):
        other = bare_fit(Subject.of(smaller, "int4"), asked.card, options)
        if other.fits:
            yield from says(f"{smaller.title} int4", other)
            return


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
    if asked.kv_dtype == "bf16" and card.has_fp8_kv:
        yield from more("KV cache in fp8", bare_fit(model, card, replace(options, kv_dtype="fp8")))
    off = replace(asked.layout, hybrid=False)
    gain = asked.layout.blocks(_SHORT) * asked.layout.block_bytes
    gain /= off.blocks(_SHORT) * off.block_bytes
    if asked.layout.hybrid and gain > _HYBRID_GAIN:
        limit = _hybrid_limit(asked)
        yield (
            f"jobs under {words(limit)} tokens a request: hybrid manager off holds "
            f"{(gain - 1) * 100:.1f} % more (chosen by itself)"
        )


def _hybrid_limit(asked: Fit) -> int:
    """Tokens up to which a request takes less memory without the hybrid manager."""
    on, off = asked.layout, replace(asked.layout, hybrid=False)
    step = on.block_size
    tokens = step
    while off.blocks(tokens) * off.block_bytes < on.blocks(tokens) * on.block_bytes:
        tokens += step
    return tokens - step
