from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.humanize import count, duration, money, plural, rate, size
from tests.support.samples import quick


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (8.34, "8.3 s"),
        (42.4, "42 s"),
        (60, "1 min"),
        (250, "4 min 10 s"),
        (3600, "1 h"),
        (7800, "2 h 10 min"),
        (7859, "2 h 10 min"),
        (86_400, "1 d"),
        (273_600, "3 d 4 h"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(59.7, "1 min"), (3599.8, "1 h"), (86_399.9, "1 d")])
def test_a_duration_that_is_rounded_up_moves_to_the_next_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999, "999"), (12_345, "12 345"), (1e6, "1 000 000"), (2.6, "3")]
)
def test_thousands_are_set_apart(number: float, text: str) -> None:
    assert re.sub(r"\s", " ", count(number)) == text


@pytest.mark.parametrize(
    ("per_second", "text"),
    [
        (0, "0.0"),
        (36.07, "36.1"),
        (512.4, "512"),
        (3_900, "3.9 k"),
        (2.5e6, "2.5 M"),
        (1e9, "1.0 G"),
        (7e12, "7.0 T"),
    ],
)
def test_a_rate_has_two_or_three_digits_and_a_letter(per_second: float, text: str) -> None:
    assert rate(per_second) == text


@quick
@given(st.floats(0, 9e14))
@example(999.7)
@example(999_970.0)
def test_a_rate_never_has_more_than_three_digits_before_the_point(per_second: float) -> None:
    assert re.fullmatch(r"\d{1,3}(\.\d)?( [kMGT])?", rate(per_second))


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 MiB"),
        (700, "1 KiB"),
        (36_000, "35 KiB"),
        (5 << 20, "5 MiB"),
        (1 << 30, "1.0 GiB"),
        (int(1.5 * 2**30), "1.5 GiB"),
    ],
)
def test_bytes_are_gib_mib_or_kib(number: int, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0 rows"), (1, "1 row"), (12, "12 rows")])
def test_one_is_not_plural(number: int, text: str) -> None:
    assert plural(number, "row") == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0.00"),
        (5.3e-05, "0.000053"),
        (0.0123, "0.012"),
        (0.5, "0.5"),
        (12.5, "12.50"),
        (1234.567, "1 234.57"),
    ],
)
def test_money_is_in_plain_digits(amount: float, text: str) -> None:
    assert money(amount) == text
