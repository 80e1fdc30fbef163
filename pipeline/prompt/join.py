"""Where a prompt and its answer join, and with what in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.job.sampling import Sampling
from pipeline.model.tokenizer import Tokenizer

_TAIL_CHARACTERS = 48  # of the prompt, tokenized together with an answer
Join = Callable[[str, str], str]  # (prompt, answer) -> the answer as it is written after the prompt


@dataclass(frozen=True, slots=True)
class Prompt:
    """One row's prompt as token ids. ``tail``: the end of its text, which an answer's tokens join:
    the text after its last control token.

    ``score_from``: for a job that scores, the index of the first id to score; an answer to be
    scored is then part of the ids. ``own_seed``: the sampling's seed is for this row only.
    ``asked``: for a row with several questions, a prompt for each; ``ids`` is their common start.
    """

    ids: list[int]
    tail: str
    sampling: Sampling
    score_from: int | None = None
    own_seed: bool = False
    asked: tuple[Prompt, ...] = ()

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt that is sent to an engine."""
        return max((len(one.ids) for one in self.asked), default=len(self.ids))

    @property
    def tokens(self) -> int:
        """All tokens that the model reads; the part that questions share counts once."""
        return len(self.ids) + sum(len(one.ids) - len(self.ids) for one in self.asked)


def open_ended(prompt: str) -> str:
    """``prompt`` without trailing spaces: the token of a word begins with its space, so after a
    prompt that ends in a space every continuation is unlikely."""
    return prompt.rstrip(" ")


def continuation(prompt: str, answer: str) -> str:
    """``answer`` as it is written after ``prompt``: after a space, unless there is a line break."""
    bare = prompt.rstrip(" ")
    return answer if not bare or bare[-1] == "\n" else f" {answer}"


def reply(_prompt: str, answer: str) -> str:
    """``answer`` as a chat reply: it begins the model's turn."""
    return answer


def joining(*, chat: bool) -> Join:
    """How an answer is written after a prompt: as a reply in a chat, else as a continuation."""
    return reply if chat else continuation


def tail_of(prompt: str) -> str:
    """The end of a prompt's text that affects an answer's tokens."""
    tail = prompt[-_TAIL_CHARACTERS:]
    return tail[tail.rfind("\n", 0, -1) + 1 :] if "\n" in tail[:-1] else tail


def joined_ids(
    tokenizer: Tokenizer, tail: str, tail_ids: Sequence[int], answer: str, join: Join
) -> list[int]:
    """The tokens of ``answer`` as it continues a prompt that ends in ``tail``.

    ``tail_ids``: the tokens of ``tail`` alone; ``answer``: its control tokens are marked. Prompt
    and answer are tokenized together; if the boundary falls inside a token, the prompt's ids are
    kept and the answer is tokenized separately.
    """
    parts = tokenizer.parts(join(tail, answer))
    if not parts or not isinstance(parts[0], str):
        return tokenizer.encode_plain(parts)
    joined = tokenizer.encode_plain([tail + parts[0], *parts[1:]])
    if joined[: len(tail_ids)] == list(tail_ids):
        return joined[len(tail_ids) :]
    return tokenizer.encode_plain(parts)
