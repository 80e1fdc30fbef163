"""Text with marks, and operations on it: results equal those on the text without, except for marks.

A mark is in front of text that means a control token, on its way to the model. It consists of
surrogates, which no text has, and is random for each process, so no row can contain it. Code that
inspects a text instead of passing it on (compares, searches, measures, encodes it) sees it without
marks: the result must be the same in every process.

What a template finds in a text (places, lengths, truths) is that of the text without marks; what it
takes out of one (slices, letters, pieces) keeps the marks in front of its letters.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import Any

MARK = "".join(chr(0xD800 + secrets.randbelow(0x400)) for _ in range(4))
_LETTER = re.compile(f"(?:{MARK})?.|{MARK}", re.DOTALL)
_ESCAPED = repr(MARK)[1:-1]  # in a printed list; a row cannot contain it: its backslashes double
# methods that inspect a text, or the texts in a list
FINDING = frozenset(
    ("startswith", "endswith", "find", "rfind", "index", "rindex", "count", "encode", "isascii",
     "isprintable", "isalpha", "isalnum", "isdecimal", "isdigit", "isidentifier", "islower",
     "isnumeric", "isspace", "istitle", "isupper")
)  # fmt: skip
# methods that return pieces of a text, in order
CUTTING = frozenset(
    ("split", "rsplit", "splitlines", "partition", "rpartition", "removeprefix", "removesuffix",
     "strip", "lstrip", "rstrip")
)  # fmt: skip
_FROM_THE_END = ("removeprefix", "lstrip")  # they return the text's end


def unmarked(text: str) -> str:
    """A marked text in readable form."""
    return text.replace(MARK, "")


def looked_at(value: Any) -> Any:
    """A template's value without marks, including texts in its lists and mappings."""
    if isinstance(value, str):
        return unmarked(value) if MARK in value else value
    if isinstance(value, list | tuple):
        return type(value)([looked_at(one) for one in value])
    if isinstance(value, dict):
        return {looked_at(key): looked_at(one) for key, one in value.items()}
    return value


class MarkedText:
    """A text with marks that is indexed by letters."""

    def __init__(self, text: str) -> None:
        self._letters = letters_of(text)

    def __getitem__(self, at: int | slice) -> str:
        return "".join(self._letters[at])


def letters_of(text: str) -> list[str]:
    """Each letter with the mark in front of it."""
    return _LETTER.findall(text)


def by_places(value: Any) -> Any:
    """``value`` in a form to subscript."""
    return MarkedText(value) if isinstance(value, str) and MARK in value else value


def by_letters(value: Any) -> Any:
    """``value`` in a form to iterate over."""
    return letters_of(value) if isinstance(value, str) and MARK in value else value


def cut(
    text: str,
    name: str,
    call: Callable[..., Any],
    method: Callable[..., Any],
    *args: Any,
    **kwargs: Any,
) -> Any:
    """The result of a method of CUTTING. ``method``: that of the unmarked text; ``call`` calls
    it."""
    plain, letters = unmarked(text), MarkedText(text)
    given = call(method, *args, **kwargs)
    if isinstance(given, str):
        at = len(plain) - len(given) if name in _FROM_THE_END else plain.index(given)
        return letters[at : at + len(given)]
    separator = (args[0] if args else kwargs.get("sep")) if name in ("split", "rsplit") else None
    pieces, at = [], 0
    for number, piece in enumerate(given):
        at = plain.index(piece, at + (len(separator) if separator and number else 0))
        pieces.append(letters[at : at + len(piece)])
        at += len(piece)
    return type(given)(pieces)


def restored(text: str) -> str:
    """Put the marks back where a list with marked texts was printed."""
    return text.replace(_ESCAPED, MARK)
