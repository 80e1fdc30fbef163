"""Fits as text: one table per card, and where the announcement and vLLM disagree."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from pipeline.budget.cards.lookup import GIB, Card, in_slot
from pipeline.budget.fit.assess import CONTEXTS, Fit, gb, longest_context, words
from pipeline.cli.terminal.console import OUT
from pipeline.humanize import count, plural, rate, size

_MODEL, _NUMBER, _CARD = 11, 9, 13
_ADVICE_FROM, _REMARKS_FROM, _ANNOUNCED_FROM, _WEIGHTS_FROM = 100, 82, 72, 63  # columns
_KIB, _MIB = 1 << 10, 1 << 20


def print_fits(fits: Sequence[Fit], *, whole: bool, explain: bool) -> None:
    """``whole``: all models and cards; then also the disagreements and a final summary."""
    for line in _lines(fits, whole=whole, explain=explain):
        OUT.print(line)


def _lines(fits: Sequence[Fit], *, whole: bool, explain: bool) -> Iterator[str]:
    if len(fits) == 1:
        yield from _explained(fits[0])
        return
    for _, group in groupby(fits, key=lambda f: (f.cards, f.card)):
        yield from _card_table(list(group))
        yield ""
    if explain:
        for one in fits:
            if one.fits:
                yield from _explained(one)
            yield ""
    if whole:
        yield from (*_matrix(fits), "", *disagreements(fits))
    elif len(fits) > 1 and not explain:
        yield "the arithmetic: --explain; one model: --model gemma-3-27b"


@dataclass(frozen=True)
class _Table:
    """``room``: columns of the terminal; the least important parts of a table are dropped first."""

    lengths: Sequence[int]
    room: int

    @property
    def held(self) -> int:
        """Width of the columns for requests at once."""
        return max(20, 6 * len(self.lengths))

    def head(self, announced: str, weights: str) -> str:
        """Both cells, if there is room for them."""
        shown = ((announced, _ANNOUNCED_FROM), (weights, _WEIGHTS_FROM))
        return "".join(f"{cell:>{_NUMBER}}" for cell, needed in shown if self.room >= needed)


def _card_table(fits: Sequence[Fit]) -> Iterator[str]:
    lengths = sorted({t for f in fits for t in f.max_requests})
    table = _Table(lengths, OUT.width if OUT.is_terminal else sys.maxsize)
    yield _title(fits[0].card, fits)
    yield (
        f"{'model':{_MODEL}}{table.head('announced', 'weights')}{'for KV':>{_NUMBER}}"
        f"{'requests at once of':>{table.held}}{'tokens/s':>10}"
    )
    yield (
        f"{'':{_MODEL}}{table.head('GB', 'GB')}{'GB':>{_NUMBER}}"
        f"{''.join(f'{words(t):>6}' for t in lengths):>{table.held}}{'at most':>10}"
    )
    for one in fits:
        yield _row(one, table)


def _title(card: Card, fits: Sequence[Fit]) -> str:
    memory = f"{size(card.vram_bytes)} free" if card.is_cpu else f"{card.vram_gb:g} GB"
    kinds = {f.kv_dtype for f in fits if f.fits} or {fits[0].kv_dtype}
    kept = "KV cache in " + (kinds.pop() if len(kinds) == 1 else "bf16 or, marked *, fp8")
    vision = ", with vision" if any(f.vision for f in fits) else ", text only"
    title = in_slot(card.title, fits[0].cards)
    return f"{title} · {memory} · {card.bandwidth / 1e9:.0f} GB/s · {kept}{vision}"


def _row(one: Fit, table: _Table) -> str:
    marked = f"{one.model.title} {one.precision}" + (
        "*" if one.fits and one.kv_dtype == "fp8" else ""
    )
    announced = one.model.announced_gb
    said = f"{announced:.1f}" if announced is not None else "–"
    head = f"{marked:{_MODEL}}{table.head(said, f'{one.weights_bytes / 1e9:.1f}')}"
    if not one.fits:
        advised = table.room >= _ADVICE_FROM and one.advice and not one.unsupported
        near = f" → {one.advice[0]}" if advised else ""
        return f"{head}   no: {_shortly(one)}{near}"
    held = "".join(f"{count(one.max_requests.get(t, 0)):>6}" for t in table.lengths)
    speed = rate(one.roofline_tokens_per_second)
    bound = table.room >= _REMARKS_FROM and one.max_requests[one.context] < one.knee
    limit = "  KV-bound" if bound else ""
    return f"{head}{one.kv_bytes / 1e9:>{_NUMBER}.1f}{held:>{table.held}}{speed:>10}{limit}"


def _shortly(one: Fit) -> str:
    if one.unsupported:
        return one.reason
    if one.kv_bytes <= 0:
        return f"+ {gb(one.overhead_bytes)} overhead > {gb(one.usable_bytes)}"
    return f"{gb(one.kv_bytes)} left for KV"


def _matrix(fits: Sequence[Fit]) -> Iterator[str]:
    """Requests at once at the reference length, every model on every card."""
    cards = list(dict.fromkeys(f.card for f in fits))
    context = fits[0].context
    yield f"requests of {words(context)} tokens at once (– does not fit)"
    by_model = {(f.model.title, f.precision, f.card): f for f in fits}
    at_once = max(1, (OUT.width - _MODEL) // _CARD)
    for first in range(0, len(cards), at_once):
        shown = cards[first : first + at_once]
        if first:
            yield ""
        yield f"{'':{_MODEL}}" + "".join(f"{c.title.removeprefix('RTX '):>{_CARD}}" for c in shown)
        for title, precision in dict.fromkeys((f.model.title, f.precision) for f in fits):
            found = [by_model[title, precision, card] for card in shown]
            cells = [count(f.max_requests[context]) if f.fits else "–" for f in found]
            cells = [f"{cell:>{_CARD}}" for cell in cells]
            yield f"{f'{title} {precision}':{_MODEL}}{''.join(cells)}"


def _explained(one: Fit) -> Iterator[str]:
    """The arithmetic of one fit, its settings, and what would help."""
    geometry, layout = one.layout.geometry, one.layout
    yield one.headline
    if not one.fits:
        yield f"  {one.reason}"
    if not one.unsupported:
        share = one.usable_bytes / one.card.vram_bytes
        source = "as an engine last reported" if one.overhead_reported else "a model of it"
        yield (
            f"  memory    {size(one.card.vram_bytes)} × {share:.2f} = {gb(one.usable_bytes)} usable"
            f" − weights {gb(one.weights_bytes)} − overhead {gb(one.overhead_bytes)} ({source})"
            f" = {gb(one.kv_bytes)} for the KV cache"
        )
        per_token = geometry.kv_bytes_per_token_per_layer(layout.dtype_bytes)
        groups = layout.full_groups + layout.sliding_groups
        yield (
            f"  blocks    {layout.block_size} tokens × {layout.layers_per_group} layers × "
            f"{count(per_token)} bytes = {layout.block_bytes / _KIB:.0f} KiB; "
            f"{count(one.num_gpu_blocks)} of them; {plural(groups, 'group')} of layers"
        )
    for tokens, charge in one.blocks_per_request.items() if one.fits else ():
        holds = layout.blocks(tokens)
        mib = holds * layout.block_bytes / _MIB
        yield (
            f"  {words(tokens):<9} {count(holds)} blocks ({mib:.0f} MiB) once it decodes, "
            f"{count(charge)} free to be let in: {count(one.max_requests[tokens])} at once"
        )
    if one.fits:
        yield (
            f"  speed     at most {rate(one.roofline_tokens_per_second)} tokens/s with "
            f"{one.max_requests[one.context]} requests of {words(one.context)} tokens; "
            f"the card's arithmetic keeps pace up to {one.knee}"
        )
        yield f"  longest   one request of {count(longest_context(one))} tokens would fit alone"
        for name, value in one.settings.arguments.items():
            yield f"  {name} {value}: {one.settings.reasons.get(name, '')}"
    for line in one.advice:
        yield f"  {'more' if one.fits else 'would fit'}: {line}"


def disagreements(fits: Sequence[Fit]) -> Iterator[str]:
    """Where the announcement and vLLM differ, with the arithmetic."""
    yield "where the announcement and vLLM differ"
    told = {(f.model.title, f.precision): f for f in fits if f.model.announced_gb}
    for title in ("27B", "12B", "4B", "1B"):
        one = told.get((title, "int4"))
        if one is None:
            continue
        w, g = one.model.weights, one.model.geometry
        yield (
            f"  {title} int4: {one.model.announced_gb:g} GB announced, {gb(w.text_bytes)} loaded: "
            f"{gb(w.linear_bytes)} of int4 with scales + {gb(w.embedding_bytes)} of embeddings, "
            f"{count(g.vocabulary)} × {count(g.hidden)} in bf16"
            + (f"; with vision {gb(w.total(vision=True))}" if w.vision_bytes else "")
        )
    for one in fits:
        if (one.model.title, one.precision, one.card.name) == ("12B", "int4", "rtx4060-laptop"):
            yield f'  "12B on an RTX 4060 Laptop": {one.reason}'
            yield f"    → {' · '.join(one.advice)}"
    of_27b = told.get(("27B", "int4"))
    if of_27b is not None:
        yield from _eight_gigabytes(of_27b)


def _eight_gigabytes(one: Fit) -> Iterator[str]:
    """The announcement's formula, its result, and what vLLM holds."""
    g = one.model.geometry
    tokens = 2 * CONTEXTS[0]
    layout = one.layout.__class__(g, 16, 2048)
    every_head = 2 * g.layers * g.query_heads * g.head_dim * tokens * 2
    as_stored = g.layers * g.kv_bytes_per_token_per_layer() * tokens
    held = layout.blocks(tokens) * layout.block_bytes
    yield (
        f'  "27B needs +8 GB for {tokens} tokens": its formula gives 2 × {g.layers} layers × '
        f"{g.query_heads} heads × {g.head_dim} × {tokens} × 2 bytes = {every_head / GIB:.1f} GiB;"
    )
    yield (
        f"    but only {g.kv_heads} heads have keys and values: {as_stored / GIB:.2f} GiB; and "
        f"{g.n_sliding} layers keep {words(g.sliding_window)} tokens: {held / GIB:.2f} GiB in vLLM"
    )
