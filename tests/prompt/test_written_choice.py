"""A label that a model writes where nobody tells how likely it is."""

from __future__ import annotations

import pytest

from pipeline.prompt.written_choice import chosen

_CHOICES = ("positive", "negative", "not", "not sure")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (" positive", "positive"),
        ("positive\nTweet: more", "positive"),
        ("not sure", "not sure"),
        ("not.", "not"),
        ("positively", None),
        ("I think positive", None),
        ("", None),
    ],
)
def test_it_is_the_longest_choice_that_the_answer_begins_with(text: str, label: str | None) -> None:
    assert chosen(text, _CHOICES) == label


def test_quotes_of_json_are_taken_off() -> None:
    assert chosen('"negative"', _CHOICES, quoted=True) == "negative"
