"""A short text that a regular expression matches, for the simulated engine."""

from __future__ import annotations

import random
import re
from typing import Any

_parser = re._parser  # type: ignore[attr-defined]  # the standard library's own, unnamed in stubs
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_CATEGORIES = {
    "CATEGORY_DIGIT": "0123456789",
    "CATEGORY_SPACE": " ",
    "CATEGORY_WORD": _LETTERS,
    "CATEGORY_NOT_DIGIT": _LETTERS,
    "CATEGORY_NOT_SPACE": _LETTERS,
    "CATEGORY_NOT_WORD": " ",
}


def sample_match(pattern: str, dice: random.Random) -> str:
    """A text that ``pattern`` matches in full, the shortest repeats; '' for exotic patterns."""
    text = "".join(_sample(op, argument, dice) for op, argument in _parser.parse(pattern))
    return text if re.fullmatch(pattern, text) else ""


def _sample(op: Any, argument: Any, dice: random.Random) -> str:
    name = str(op)
    if name == "LITERAL":
        return chr(argument)
    if name == "NOT_LITERAL":
        return next(c for c in _LETTERS if ord(c) != argument)
    if name == "ANY":
        return dice.choice(_LETTERS)
    if name == "IN":
        return _sample_set(argument, dice)
    if name == "BRANCH":
        return _join(dice.choice(argument[1]), dice)
    if name == "SUBPATTERN":
        return _join(argument[-1], dice)
    if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        least, most, inner = argument
        return "".join(_join(inner, dice) for _ in range(max(least, min(1, int(most)))))
    return ""  # anchors


def _join(parts: Any, dice: random.Random) -> str:
    return "".join(_sample(op, argument, dice) for op, argument in parts)


def _sample_set(members: Any, dice: random.Random) -> str:
    op, argument = dice.choice([m for m in members if str(m[0]) != "NEGATE"])
    negated = str(members[0][0]) == "NEGATE"
    name = str(op)
    if negated:
        excluded = {chr(a) for o, a in members if str(o) == "LITERAL"}
        return dice.choice([c for c in _LETTERS if c not in excluded] or [""])
    if name == "RANGE":
        return chr(dice.randint(*argument))
    if name == "CATEGORY":
        return dice.choice(_CATEGORIES[str(argument)])
    return chr(argument)
