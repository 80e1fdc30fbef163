"""The job file's trust section: how a few right answers are used."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.job.section import Section

Share = Annotated[float, Field(gt=0, lt=1)]


class Accept(Section):
    """Which labels are accepted: as many as possible with a share of wrong ones of at most
    ``error``, with probability ``confidence``."""

    error: Share = 0.05
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95


class Trust(Section):
    """Operational: the model's own answers do not change.

    ``calibrate``: auto calibrates the probabilities as soon as there are enough right answers; off
    keeps the model's own. ``accept``: None promises nothing. ``label_sets``: how often a row's
    label may be missing in its set of labels (column ``label_set``, if the output was started with
    it); None: no sets.
    """

    calibrate: Literal["auto", "off"] = "auto"
    accept: Accept | None = Accept()
    label_sets: Share | None = None
