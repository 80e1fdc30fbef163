"""How fast cards are taken to be: expected first, measured then."""

from __future__ import annotations

import pytest

from pipeline.dispatch.speeds import Speeds


def speeds(**expected: float) -> Speeds:
    made = Speeds()
    for worker, speed in expected.items():
        made.join(worker, speed)
    return made


def test_a_card_is_as_fast_as_expected_until_it_is_measured() -> None:
    made = speeds(a=2.0, b=6.0)

    assert (made.of("a"), made.of("b"), made.total) == (2.0, 6.0, 8.0)


def test_measuring_soon_outweighs_the_expectation() -> None:
    made = speeds(a=2.0)
    for _ in range(300):
        made.note("a", cost=5.0, tokens=0, seconds=1.0)

    assert made.of("a") == pytest.approx(5.0, rel=0.03)
    assert made.total == pytest.approx(made.of("a"))


def test_what_is_measured_on_one_card_corrects_what_is_expected_of_others() -> None:
    made = speeds(a=100.0, b=300.0)
    for _ in range(300):
        made.note("a", cost=10.0, tokens=0, seconds=1.0)

    assert made.of("b") == pytest.approx(30.0, rel=0.3)


def test_tokens_tell_more_than_rows() -> None:
    """Both make 100 tokens a second; one of them happened to get the short rows."""
    made = speeds(a=1.0, b=1.0)
    for _ in range(300):
        made.note("a", cost=2.0, tokens=100, seconds=1.0)
        made.note("b", cost=0.5, tokens=100, seconds=1.0)

    assert made.of("a") == pytest.approx(made.of("b"), rel=0.05)


def test_a_card_that_slows_down_is_noticed() -> None:
    made = speeds(a=5.0)
    for speed in [5.0] * 300 + [1.0] * 300:
        made.note("a", cost=speed, tokens=0, seconds=1.0)

    assert made.of("a") < 1.5


def test_the_speed_of_who_has_gone_does_not_count() -> None:
    made = speeds(a=2.0, b=6.0)
    made.drop("b")
    made.drop("b")

    assert made.total == pytest.approx(2.0)


def test_a_forecast_that_was_off_by_a_hundred_times_is_soon_believed_no_more() -> None:
    made = speeds(a=1000.0, b=3000.0)
    for _ in range(3):
        made.note("a", cost=10.0, tokens=0, seconds=1.0)

    assert made.of("a") < 60
    assert made.of("b") < 180
