"""`rackmill fit`: whether a model fits a card, with how many requests at once, and how fast."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from pipeline.budget.cards.lookup import (
    CARDS,
    Card,
    find_card,
    generic_card,
    in_slot,
    parse_gpus,
)
from pipeline.budget.fit.fit import fit
from pipeline.budget.model_spec import FitOptions, ModelSpec
from pipeline.cli.options import Json, KvDtype
from pipeline.cli.terminal.console import print_json
from pipeline.errors import UsageError
from pipeline.model import catalogue
from pipeline.model.folder import ModelFolder

# The cards in the announcement, common gaming cards, and this machine's processor.
_CARDS = ("rtx3060", "rtx3090", "rtx4060-laptop", "rtx4090", "rtx5090")


def fit_command(
    model: Annotated[
        str | None, typer.Option(metavar="NAME|DIR", help="One model (default: all of them).")
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(metavar="NAME", help='As rtx3090; "2x rtx3060": together; lists; cpu.'),
    ] = None,
    vram: Annotated[
        float | None, typer.Option(metavar="GIB", min=1, help="A card with that much memory.")
    ] = None,
    context: Annotated[
        int | None, typer.Option(metavar="N", min=16, help="Tokens of one request, answer and all.")
    ] = None,
    kv_dtype: KvDtype = "auto",
    text_only: Annotated[
        bool, typer.Option("--text-only/--vision", help="Without or with the vision tower.")
    ] = True,
    explain: Annotated[bool, typer.Option("--explain", help="Show the arithmetic.")] = False,
    as_json: Json = False,
) -> None:
    """Say whether models fit cards, with how many requests at once, and how fast at most."""
    from pipeline.cli.try_out.fit.show import print_fits

    wanted, cards = subjects(model), _cards(gpu, vram)
    options = FitOptions(context=context, kv_dtype=kv_dtype, vision=not text_only)
    fits = []
    for number, card in cards:
        for model_spec in wanted:
            overhead = reported_overhead(model_spec, card, number)
            asked = replace(options, cards=number, overhead_correction=overhead)
            fits.append(fit(model_spec, card, asked))
    if as_json:
        print_json({"fits": [one.as_json() for one in fits]})
    else:
        whole = model is None and gpu is None and vram is None
        print_fits(fits, whole=whole, explain=explain)


def subjects(name: str | None) -> list[ModelSpec]:
    """The model with that name or in that folder; None: the whole catalogue. Raises UsageError."""
    if name is None:
        models = reversed(catalogue.MODELS.values())  # the largest first
        precisions: tuple[catalogue.Precision, ...] = ("bf16", "int8", "int4")
        return [ModelSpec.of(m, p) for m in models for p in precisions]
    path = Path(name)
    if path.is_dir():
        return [ModelSpec.of_folder(ModelFolder(path.resolve().name, path.resolve()))]
    if "/" in name:
        raise UsageError(f"model: no such folder: {path}")
    entry = catalogue.find(name)
    return [ModelSpec.of(entry.model, entry.precision)]


def _cards(gpu: str | None, vram: float | None) -> list[tuple[int, Card]]:
    """Each card with the number of them per engine. Raises UsageError."""
    if gpu is not None and vram is not None:
        raise UsageError("--gpu and --vram cannot stand together", "name a card, or give its GiB")
    if vram is not None:
        return [(1, generic_card(vram))]
    if gpu is None:
        return [(1, card) for card in (*(CARDS[name] for name in _CARDS), card_named("cpu"))]
    asked = parse_gpus(gpu, card_named)
    for number, card in asked:
        if number > 1 and card.is_laptop:
            raise UsageError(
                f"gpu: {number} laptops are {number} machines, and the cards of an engine are in "
                f"one: {number}x {card.title}",
                f"for each of them: --gpu {card.name}",
            )
    return asked


def card_named(name: str) -> Card:
    """The card with that name, or "cpu". Raises UsageError."""
    from pipeline.engine.machine.host import this_processor

    return this_processor() if name.lower() == "cpu" else find_card(name)


def reported_overhead(model_spec: ModelSpec, card: Card, cards: int) -> int | None:
    """The overhead (bytes) that an engine with that model in such a slot last reported here."""
    from pipeline.report.profile import load_profile

    if card.is_cpu:
        return None
    seen = [
        run.overhead_bytes
        for run in load_profile()
        if run.card == in_slot(card.name, cards)
        and run.overhead_bytes
        and run.model.split(" ")[0] == model_spec.name
    ]
    return seen[-1] if seen else None
