"""Whether a model fits a card, and what would if it does not: the question, its answer. Pure."""

from __future__ import annotations

from dataclasses import replace

from pipeline.budget.cards.lookup import Card
from pipeline.budget.fit.advice import advise, check_fit, refusal
from pipeline.budget.fit.verdict import CONTEXTS, Fit, bare_fit, gb, longest_context, words
from pipeline.budget.model_spec import FitOptions, ModelSpec

__all__ = [
    "CONTEXTS",
    "Fit",
    "FitOptions",
    "ModelSpec",
    "check_fit",
    "fit",
    "gb",
    "longest_context",
    "refusal",
    "words",
]


def fit(model: ModelSpec, card: Card, options: FitOptions | None = None) -> Fit:
    """The verdict on ``model`` on ``card``, with what would fit or what would help.

    Never raises for what cannot be: the answer says so (see ``check_fit``).
    """
    options = options or FitOptions()
    bare = bare_fit(model, card, options)
    return replace(bare, advice=tuple(advise(bare, options)))
