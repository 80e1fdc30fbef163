"""Servers that take chats alone."""

from __future__ import annotations

from pipeline.engine.http.chat import turns_of


def test_a_chat_is_taken_apart_into_its_turns() -> None:
    text = (
        "<start_of_turn>user\nHello<end_of_turn>\n<start_of_turn>model\nHi<end_of_turn>\n"
        "<start_of_turn>user\nHow\nare you?<end_of_turn>\n<start_of_turn>model\n"
    )

    assert turns_of(text) == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "How\nare you?"},
    ]


def test_what_is_no_chat_is_none() -> None:
    assert turns_of("Tweet: great\nSentiment:") is None
    assert turns_of("x<start_of_turn>user\nHello<end_of_turn>\n<start_of_turn>model\n") is None
    assert turns_of("<start_of_turn>model\n") is None
