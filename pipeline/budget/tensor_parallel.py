"""Over how many like cards of one machine an engine spreads (tensor parallel). Pure.

Each card has a part of every layer, so memory for weights and KV cache adds up; after each half
layer the cards tell each other what they computed (see ``roofline.exchange_seconds``).
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.budget.cards.lookup import Card
from pipeline.budget.fit.assess import bare_fit
from pipeline.budget.model_spec import FitOptions, ModelSpec

SIZES = (1, 2, 4, 8)  # cards of a slot that are tried by themselves


def cards_needed(model: ModelSpec, card: Card, options: FitOptions, alike: int) -> int:
    """How many of ``alike`` such cards one engine takes: those that are given
    (``tensor_parallel_size``), else as few as the model fits; 1 where it fits none."""
    given = options.arguments.get("tensor_parallel_size")
    if given is not None:
        return int(given)
    return next((n for n in SIZES if n <= alike and fits_over(model, card, options, n)), 1)


def fits_over(model: ModelSpec, card: Card, options: FitOptions, cards: int) -> bool:
    """Whether so many such cards together hold the model and a request."""
    return bare_fit(model, card, replace(options, cards=cards)).fits
