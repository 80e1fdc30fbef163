"""Lines of a terminal are as wide as they look, whatever script they are in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from pipeline.cli.terminal.columns import cut, padded
from tests.support.samples import quick


@pytest.mark.parametrize(("text", "columns"), [("ab", 2), ("日本", 4), ("é", 1), ("e\u0301", 1)])
def test_letters_take_the_columns_that_a_terminal_gives_them(text: str, columns: int) -> None:
    assert padded(text, 8) == text + " " * (8 - columns)


@quick
@given(st.text(alphabet="ab 日本é😀\u0301", max_size=40), st.integers(2, 30))
def test_what_is_cut_is_no_wider_than_there_is_room(text: str, room: int) -> None:
    assert cell_len(cut(text, room)) <= max(room, 3)


def test_what_fits_is_not_cut() -> None:
    assert cut("日本語", 6) == "日本語"
    assert cut("日本語の", 6) == "日本…"


def test_answers_in_any_script_stand_in_one_column() -> None:
    assert {cell_len(padded(text, 8)) for text in ("good", "良い", "")} == {8}
