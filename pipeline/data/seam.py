"""A prompt and its answer join somewhere; where, and with what in between, is decided here."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.spec.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Prompt:
    """One row's prompt as token ids. ``tail``: its text's end, which an answer's tokens join."""

    ids: list[int]
    tail: str
    sampling: Sampling


def open_ended(prompt: str) -> str:
    """``prompt`` without trailing spaces: the token of a word begins with its space, so a prompt
    that ends in one makes every continuation an unlikely one."""
    return prompt.rstrip(" ")


def continuation(prompt: str, answer: str) -> str:
    """``answer`` as it stands after ``prompt``: set apart by a space, unless by a line break."""
    bare = prompt.rstrip(" ")
    return answer if not bare or bare[-1] == "\n" else f" {answer}"


def reply(_prompt: str, answer: str) -> str:
    """``answer`` as a chat reply: it begins the model's turn."""
    return answer
