"""The job file's trust: what is made of a few right answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.job.section import Section

Share = Annotated[float, Field(gt=0, lt=1)]


class Accept(Section):
    """Which labels are accepted: so many that at most the share ``error`` of them is wrong, with
    probability ``confidence``."""

    error: Share = 0.05
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95


class Trust(Section):
    """Operational: the model's own answers stay as they are.

    ``calibrate``: auto makes the probabilities mean what they say as soon as there are enough right
    answers; off leaves the model's own. ``accept``: None promises nothing. ``label_sets``: how
    often a row's label may be missing in its set of labels (column ``label_set``, if the output
    was begun with it); None: no sets.
    """

    calibrate: Literal["auto", "off"] = "auto"
    accept: Accept | None = Accept()
    label_sets: Share | None = None
