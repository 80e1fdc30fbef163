"""Which job gets which cards of a rack."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from pipeline.dispatch.card_shares import Claim, share_out

_TURN = 600.0


def claim(job: str, cards: Sequence[object] = "abcd", **given: object) -> Claim:
    """``cards``: one slot each, or several: "ab"."""
    slots = [tuple(card) if isinstance(card, str) else (card,) for card in cards]
    return Claim(job, **({"priority": 0, "submitted": 0.0, "slots": slots} | given))  # type: ignore[arg-type]


def holding(job: str, held: str, since: float, **given: object) -> Claim:
    return claim(job, holds=frozenset(held), since=since, **given)


def test_one_job_gets_all_that_it_can_use() -> None:
    assert share_out([claim("one")], 0.0, _TURN) == {"one": ("a", "b", "c", "d")}


def test_no_job_gets_more_than_it_wants() -> None:
    assert share_out([claim("one", most=2)], 0.0, _TURN) == {"one": ("a", "b")}


def test_a_higher_priority_takes_what_others_have() -> None:
    shares = share_out([holding("low", "abcd", 0.0), claim("high", priority=1)], 1.0, _TURN)

    assert shares == {"low": (), "high": ("a", "b", "c", "d")}


def test_what_a_higher_priority_cannot_use_stays_with_the_others() -> None:
    shares = share_out([holding("low", "abcd", 0.0), claim("high", "a", priority=1)], 1.0, _TURN)

    assert shares == {"low": ("b", "c", "d"), "high": ("a",)}


def test_a_small_job_gets_its_share_beside_a_large_one_at_once() -> None:
    shares = share_out([holding("large", "abcd", 0.0), claim("small", waits_since=1.0)], 1.0, _TURN)

    assert {job: len(cards) for job, cards in shares.items()} == {"large": 2, "small": 2}


def test_who_has_cards_keeps_them() -> None:
    one, two = holding("one", "cd", 0.0), holding("two", "ab", 0.0)

    assert share_out([one, two], 1.0, _TURN) == {"one": ("c", "d"), "two": ("a", "b")}


def test_the_card_that_cannot_be_shared_stays_where_it_is() -> None:
    one, two = holding("one", "a", 0.0, cards="abc"), holding("two", "bc", 5.0, cards="abc")

    for now in (1.0, _TURN + 1, 2 * _TURN + 10):
        shares = share_out([one, two], now, _TURN)
        assert set(shares["two"]) == {"b", "c"}


def test_while_a_turn_lasts_others_wait() -> None:
    claims = [holding("one", "a", 0.0, cards="a"), claim("two", "a", waits_since=1.0)]

    assert share_out(claims, _TURN - 1, _TURN) == {"one": ("a",), "two": ()}


def test_after_a_turn_comes_who_has_waited_longest() -> None:
    one = holding("one", "a", 0.0, cards="a")
    waiting = [claim("two", "a", waits_since=9.0), claim("three", "a", waits_since=3.0)]

    assert share_out([one, *waiting], _TURN, _TURN)["three"] == ("a",)


def test_a_turn_goes_on_where_nobody_waits() -> None:
    assert share_out([holding("one", "a", 0.0, cards="a")], 9 * _TURN, _TURN) == {"one": ("a",)}


def test_of_those_who_wait_the_one_with_the_nearest_deadline_comes_first() -> None:
    early = claim("early", "a", waits_since=1.0)
    urgent = claim("urgent", "a", waits_since=9.0, deadline=100.0)

    assert share_out([early, urgent], 10.0, _TURN)["urgent"] == ("a",)


def test_free_cards_are_taken_before_those_that_others_hold() -> None:
    shares = share_out([holding("one", "a", 0.0, most=1), claim("two", most=1)], 1.0, _TURN)

    assert shares == {"one": ("a",), "two": ("b",)}


def test_a_job_that_needs_two_cards_at_once_gets_both_or_none() -> None:
    pairs = claim("pairs", ["ab", "cd"], waits_since=5.0)

    assert share_out([pairs], 0.0, _TURN) == {"pairs": ("a", "b", "c", "d")}
    assert share_out([holding("one", "a", 0.0, cards="a"), pairs], 9.0, _TURN) == {
        "one": ("a",),
        "pairs": ("c", "d"),
    }


def test_whose_turn_it_is_gets_a_slot_of_several_cards_that_others_have() -> None:
    ones, pair = holding("ones", "ab", 0.0, cards="ab"), claim("pair", ["ab"], waits_since=5.0)

    assert share_out([ones, pair], 9.0, _TURN) == {"ones": ("a", "b"), "pair": ()}
    assert share_out([ones, pair], _TURN, _TURN) == {"ones": (), "pair": ("a", "b")}


@st.composite
def _claims(draw: st.DrawFn) -> list[Claim]:
    cards = range(draw(st.integers(1, 8)))
    free = set(cards)
    found = []
    for number in range(draw(st.integers(1, 6))):
        usable = draw(st.permutations(cards))[: draw(st.integers(0, len(cards)))]
        size = draw(st.sampled_from([1, 1, 2, 3]))
        slots = [tuple(usable[at : at + size]) for at in range(0, len(usable) // size * size, size)]
        mine = frozenset(c for s in slots if free >= {*s} and draw(st.booleans()) for c in s)
        free -= mine
        found.append(
            Claim(
                str(number),
                draw(st.integers(0, 1)),
                float(number),
                slots,
                draw(st.none() | st.integers(1, 4)),
                mine,
                draw(st.floats(0, 1000)) if mine else None,
                draw(st.floats(0, 1000)),
            )
        )
    return found


@given(_claims())
def test_every_card_is_one_jobs_and_none_that_could_be_used_is_idle(claims: list[Claim]) -> None:
    shares = share_out(claims, 1000.0, _TURN)

    dealt = [card for cards in shares.values() for card in cards]
    assert len(dealt) == len(set(dealt))
    for one in claims:
        has = shares[one.job]
        mine = [slot for slot in one.slots if set(slot) <= set(has)]
        assert sorted(card for slot in mine for card in slot) == sorted(has)
        assert one.most is None or len(mine) <= one.most
        satisfied = one.most is not None and len(mine) == one.most
        assert satisfied or all(set(slot) & set(dealt) for slot in one.slots)


@given(_claims())
def test_nobody_waits_while_a_lower_priority_has_what_it_could_use(claims: list[Claim]) -> None:
    shares = share_out(claims, 1000.0, _TURN)

    for high in claims:
        if shares[high.job]:
            continue
        at_least = [c for one in claims if one.priority >= high.priority for c in shares[one.job]]
        assert all(set(slot) & set(at_least) for slot in high.slots)
