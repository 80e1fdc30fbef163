from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.simulated.regex_sample import sample_match
from tests.support.samples import quick

ATOMS = st.sampled_from(["a", "[b-d]", r"\d", r"\w", ".", "[^x]", r"\.", " "])
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda p: f"({'|'.join(p)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "*?"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
    ),
    max_leaves=8,
)


@quick
@given(PATTERNS, st.integers(0, 99))
def test_a_sample_matches_its_pattern_in_full(pattern: str, seed: int) -> None:
    assert re.fullmatch(pattern, sample_match(pattern, random.Random(seed)))


def test_a_sample_repeats_with_its_seed() -> None:
    one, two = (sample_match("[a-z]{9}", random.Random(3)) for _ in range(2))

    assert one == two


def test_every_branch_is_sampled() -> None:
    assert {sample_match("a|b|c", random.Random(s)) for s in range(50)} == {"a", "b", "c"}


@pytest.mark.parametrize(
    "pattern", [r"(a)\1(?!b)", r"(?=x)a", r"(?<=x)a", r"(a)?(?(1)b|c)", "[^a-z]", "[^ -~]"]
)
def test_an_exotic_pattern_gives_a_match_or_nothing(pattern: str) -> None:
    sample = sample_match(pattern, random.Random(0))

    assert sample == "" or re.fullmatch(pattern, sample)
