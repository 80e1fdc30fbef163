"""When a card is left to a game, and when it is taken again. A second passes between samples."""

from __future__ import annotations

import pytest

from pipeline.dispatch.desktop_use import CardSample, Desktop, Ours, Program, YieldDecision

GIB, MIB = 1 << 30, 1 << 20
QUIET = 300.0
COMPOSITOR = Program("kwin_wayland", 300 * MIB, 0.03)


class Card:
    """One of 24 GiB, of which an engine of ours, while it is there, holds 21."""

    def __init__(self, *others: Program, told: bool = True, quiet: float = QUIET) -> None:
        self.desktop = Desktop(quiet)
        self.others, self.told = others, told
        self.ours = Ours.NOTHING
        self.extra = 0  # bytes that nobody tells of
        self.now = 1000.0

    def after(self, seconds: float) -> YieldDecision:
        call = self.desktop.call
        for _ in range(round(seconds)):
            self.now += 1
            own = 0 if self.ours is Ours.NOTHING else 21 * GIB
            held = sum(p.memory_bytes or 0 for p in self.others)
            use = 1.0 if self.ours is Ours.STEADY else sum(p.use or 0 for p in self.others)
            others = self.others if self.told else None
            used = own + held + self.extra
            call = self.desktop.see(CardSample(self.now, self.ours, 24 * GIB, used, use, others))
        return call

    def work(self, seconds: float = 100) -> None:
        """The first look is over and our engine at work."""
        assert not self.after(10).away
        self.ours = Ours.LOADING
        self.after(20)
        self.ours = Ours.STEADY
        assert not self.after(seconds).away


def test_a_card_is_looked_at_before_it_is_used() -> None:
    card = Card(COMPOSITOR)

    assert card.after(5) == YieldDecision(away=True)
    assert card.after(1) == YieldDecision(away=False)


def test_a_card_that_somebody_plays_on_is_not_used_at_all() -> None:
    card = Card(COMPOSITOR, Program("game", 8 * GIB, 0.9))

    assert card.after(10) == YieldDecision(away=True, why="game uses 93% of it")


def test_a_desktop_alone_never_drives_the_engine_away() -> None:
    card = Card(COMPOSITOR)
    card.work()

    assert not card.after(3 * 3600).away


def test_a_card_is_left_five_seconds_after_a_game_uses_it() -> None:
    card = Card(COMPOSITOR)
    card.work()
    card.others = (COMPOSITOR, Program("game", 200 * MIB, 0.4))

    assert not card.after(5).away
    assert card.after(1) == YieldDecision(away=True, why="game uses 43% of it")


def test_a_short_burst_does_not_count() -> None:
    card = Card(COMPOSITOR)
    card.work()
    for _ in range(20):
        card.others = (Program("kwin_wayland", 300 * MIB, 0.5),)
        assert not card.after(4).away
        card.others = (COMPOSITOR,)
        assert not card.after(4).away


def test_a_game_that_pauses_for_a_moment_is_one_game() -> None:
    card = Card(COMPOSITOR)
    card.work()
    card.others = (COMPOSITOR, Program("game", 200 * MIB, 0.4))
    card.after(3)
    card.others = (COMPOSITOR, Program("game", 200 * MIB, 0.0))
    card.after(2)
    card.others = (COMPOSITOR, Program("game", 200 * MIB, 0.4))

    assert card.after(2).away


def test_a_card_is_left_to_who_takes_much_memory_even_before_using_it() -> None:
    card = Card(COMPOSITOR)
    card.work()
    card.others = (COMPOSITOR, Program("game", 800 * MIB, 0.0))

    assert card.after(6) == YieldDecision(away=True, why="game takes 800 MiB more of its memory")


def test_windows_opened_over_an_hour_are_not_a_game() -> None:
    card = Card(COMPOSITOR)
    card.work()
    for held in range(300, 2000, 50):
        card.others = (Program("browser", held * MIB, 0.05),)
        assert not card.after(60).away


def test_what_is_much_memory_depends_on_what_was_free() -> None:
    """A game can take no more than what the engine has left."""
    card = Card(Program("kwin_wayland", 2300 * MIB, 0.03))  # 772 MiB are free beside the engine
    card.work()
    card.others = (*card.others, Program("game", 400 * MIB, 0.0))

    assert card.after(6).away


@pytest.mark.parametrize("ours", [Ours.NOTHING, Ours.LOADING])
def test_a_card_is_used_again_when_it_was_quiet_for_long(ours: Ours) -> None:
    card = Card(COMPOSITOR)
    card.work()
    card.others = (COMPOSITOR, Program("game", 4 * GIB, 0.6))
    assert card.after(10).away
    card.others, card.ours = (COMPOSITOR,), ours
    assert card.after(QUIET).away
    assert not card.after(2).away


def test_a_round_between_two_games_does_not_bring_the_engine_back() -> None:
    card = Card(COMPOSITOR)
    card.work()
    card.ours = Ours.NOTHING
    game = Program("game", 4 * GIB, 0.6)
    for _ in range(5):
        card.others = (COMPOSITOR, game)
        card.after(60)
        card.others = (COMPOSITOR,)
        assert card.after(QUIET - 10).away


def test_a_game_in_its_menu_keeps_the_card() -> None:
    """It draws nothing, and holds its memory."""
    card = Card(COMPOSITOR)
    card.work()
    card.others = (COMPOSITOR, Program("game", 4 * GIB, 0.6))
    card.after(10)
    card.ours, card.others = Ours.NOTHING, (COMPOSITOR, Program("game", 4 * GIB, 0.0))

    assert card.after(2 * 3600).away


def test_a_message_that_pops_up_does_not_begin_the_quiet_anew() -> None:
    card = Card(COMPOSITOR)
    card.work()
    card.others = (COMPOSITOR, Program("game", 4 * GIB, 0.6))
    card.after(10)
    card.ours, card.others = Ours.NOTHING, (COMPOSITOR,)
    card.after(QUIET - 10)
    card.others = (Program("kwin_wayland", 300 * MIB, 0.2),)
    card.after(2)
    card.others = (COMPOSITOR,)

    assert not card.after(10).away


def test_a_larger_desktop_after_the_game_is_the_usual_one_after_a_while() -> None:
    card = Card(COMPOSITOR)
    card.work()
    card.others = (COMPOSITOR, Program("game", 4 * GIB, 0.6))
    card.after(10)
    card.ours, card.others = Ours.NOTHING, (COMPOSITOR, Program("browser", 900 * MIB, 0.01))

    assert card.after(900).away
    assert not card.after(QUIET + 10).away


def test_where_no_program_is_told_of_the_fall_of_the_free_memory_counts() -> None:
    card = Card(COMPOSITOR, told=False)
    card.work()
    card.extra = 800 * MIB

    assert card.after(6) == YieldDecision(
        away=True, why="another program takes 800 MiB more of its memory"
    )


def test_where_no_program_is_told_of_our_own_engine_is_not_taken_for_a_game() -> None:
    card = Card(COMPOSITOR, told=False)
    card.work(30)
    card.extra = 2 * GIB  # the first steps after loading take some more

    assert not card.after(600).away


def test_where_no_program_is_told_of_the_use_of_the_whole_card_tells_that_the_game_goes_on() -> (
    None
):
    card = Card(COMPOSITOR, told=False)
    card.work()
    card.extra = 2 * GIB
    card.after(10)
    card.ours, card.others = Ours.NOTHING, (Program("game", 2 * GIB, 0.5),)
    card.extra = 0

    assert card.after(3600).away
    card.others = (COMPOSITOR,)
    assert not card.after(QUIET + 5).away


def test_memory_of_which_the_driver_does_not_tell_is_seen_in_all() -> None:
    """As under WSL2: programs are listed, their memory is not."""
    card = Card(Program("game.exe", None, None))
    card.work()
    card.extra = 800 * MIB

    assert card.after(6).away


def test_time_that_goes_by_without_a_look_is_no_quiet() -> None:
    card = Card(COMPOSITOR)
    card.work()
    card.others = (COMPOSITOR, Program("game", 4 * GIB, 0.6))
    card.after(10)
    card.ours = Ours.NOTHING
    card.now += 3600  # the machine slept
    card.others = (COMPOSITOR,)

    assert card.after(QUIET).away
    assert not card.after(2).away
