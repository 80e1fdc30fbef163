"""How rows with exactly the same request are handled."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from pipeline.job.address import Address
from pipeline.job.section import Section


class Duplicates(Section):
    """Rows with exactly the same request are computed once, where the answer does not depend on
    chance (temperature 0, or a seed given by the rows). Operational: the answers are the same
    either way.

    ``answer_once``: false computes every row. ``store``: a folder (any fsspec address) of answers
    that several jobs share; without one, a job's answers lie with its output until it is done.
    """

    answer_once: bool = True
    store: Address | None = None

    @model_validator(mode="after")
    def _a_store_is_used(self) -> Self:
        if self.store is not None and not self.answer_once:
            raise ValueError("store needs answer_once: true")
        return self
