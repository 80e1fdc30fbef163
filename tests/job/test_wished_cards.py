"""`resources.gpu`: names of cards, written as everywhere else."""

from __future__ import annotations

import pytest

from pipeline import UsageError
from pipeline.budget.cards.lookup import find_card
from pipeline.cluster.engine_groups import meets
from tests.support.samples import job


@pytest.mark.parametrize("gpu", ["rtx3090", "3090", 3090, "RTX 3090", "4090, 3090", ["3090", 4090]])
def test_a_card_may_be_named_in_any_way(gpu: object) -> None:
    wishes = job(resources={"gpu": gpu}).resources

    assert meets(wishes, find_card("rtx3090"))
    assert not meets(wishes, find_card("rtx3060"))


@pytest.mark.parametrize("gpu", ["2x rtx3090", "rtx3090:2"])
def test_how_many_cards_is_a_matter_of_another_key(gpu: str) -> None:
    with pytest.raises(UsageError, match="says how many, and this says which cards"):
        job(resources={"gpu": gpu})
