"""Whether a model fits a card (``assess.bare_fit`` decides), and what would help. Pure."""

from __future__ import annotations

from dataclasses import replace

from pipeline.budget.cards.lookup import Card
from pipeline.budget.fit.advice import advise
from pipeline.budget.fit.assess import Fit, bare_fit
from pipeline.budget.model_spec import FitOptions, ModelSpec


def fit(model: ModelSpec, card: Card, options: FitOptions | None = None) -> Fit:
    """The verdict on ``model`` on ``card``, with what would fit or what would help.

    A model that does not fit raises nothing: the answer says so (see ``advice.refusal``).
    """
    options = options or FitOptions()
    bare = bare_fit(model, card, options)
    return replace(bare, advice=tuple(advise(bare, options)))
