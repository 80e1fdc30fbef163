"""Which cards CUDA_VISIBLE_DEVICES shows: what PyTorch, CUDA and Ray make of it."""

from __future__ import annotations

import os
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine.gpu.visible import VARIABLE, visible_cards
from pipeline.errors import UsageError

UUIDS = ["GPU-1a2b0000-1", "GPU-1a2c0000-2", "GPU-77770000-3"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1", [1]),
        ("2,0", [2, 0]),
        (" 1 , 2", [1, 2]),
        ("0,-1,2", [0]),
        ("0,7,1", [0]),
        ("3", []),
        ("1,1", []),
        ("0,3,0", []),
        ("GPU-1a2b,GPU-x,GPU-1a2b", []),
        ("1gpu,2", [1, 2]),
        ("GPU-77770000-3", [2]),
        ("GPU-1a2b", [0]),
        ("GPU-1a2c,GPU-1a2b", [1, 0]),
        ("GPU-1a2", []),
        ("GPU-7,GPU-9,GPU-1a2b", [2]),
        ("GPU-7,GPU-77", []),
        ("GPU-7,0", [2]),
        ("0,GPU-7", [0]),
    ],
)
def test_cards_by_number_or_by_the_beginning_of_a_uuid(value, shown) -> None:
    assert visible_cards(value, UUIDS) == shown


_part = st.one_of(
    st.integers(-2, 4).map(str),
    st.sampled_from([*UUIDS, "GPU-1a2", "GPU-7", "GPU-", "GPU-x", "", " 1", "+2", "1x", "x1"]),
)


@settings(deadline=None, max_examples=1000)
@given(st.lists(_part, max_size=4).map(",".join))
def test_it_is_what_pytorch_makes_of_it(value: str) -> None:
    from torch import cuda

    with patch.dict(os.environ, {VARIABLE: value}):
        named = cuda._parse_visible_devices()
    if named and isinstance(named[0], str):
        named = cuda._transform_uuid_to_ordinals(named, UUIDS)
    there = [index < len(UUIDS) for index in named]
    expected = named[: there.index(False)] if False in there else named

    assert visible_cards(value, UUIDS) == expected


@pytest.mark.parametrize("value", ["MIG-GPU-1a2b/1/0", "MIG-77770000"])
def test_parts_of_a_card_are_refused(value: str) -> None:
    with pytest.raises(UsageError, match="a part of a card"):
        visible_cards(value, UUIDS)
