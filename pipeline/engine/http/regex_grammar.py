"""A regular expression as a grammar of llama.cpp's (GBNF, ``grammars/README.md`` of llama.cpp).
Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

# the standard library's own, unnamed in stubs
_parser = re._parser  # type: ignore[attr-defined]
codes = re._constants  # type: ignore[attr-defined]

# -> what is in it, and whether all else is meant
_CATEGORIES = {
    codes.CATEGORY_DIGIT: ("0-9", False),
    codes.CATEGORY_SPACE: (" \\t\\n\\r", False),
    codes.CATEGORY_WORD: ("A-Za-z0-9_", False),
    codes.CATEGORY_NOT_DIGIT: ("0-9", True),
    codes.CATEGORY_NOT_SPACE: (" \\t\\n\\r", True),
    codes.CATEGORY_NOT_WORD: ("A-Za-z0-9_", True),
}
_ESCAPED = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\", "]": "\\]", "^": "\\^"}
_ESCAPED |= {"[": "\\[", "-": "\\x2D"}


def regex_grammar(regex: str) -> str:
    """A grammar of the texts that ``regex`` matches as a whole; ``\\w``, ``\\d`` and ``\\s`` are
    those of ASCII. Raises ValueError for what a grammar cannot say (looking around, references)."""
    try:
        parsed = _parser.parse(regex)
    except (re.error, RecursionError, OverflowError) as e:
        raise ValueError(f"it is no regular expression: {e}") from None
    if parsed.state.flags & codes.SRE_FLAG_IGNORECASE:
        raise ValueError("flags like (?i) are not known to llama.cpp's grammars")
    return f"root ::= {_sequence(parsed) or _EMPTY}\n"


_EMPTY = '""'
_ENDS = (codes.AT_BEGINNING, codes.AT_BEGINNING_STRING, codes.AT_END, codes.AT_END_STRING)


def _sequence(items: Iterable[tuple[Any, Any]]) -> str:
    return " ".join(part for part in (_item(code, value) for code, value in items) if part)


def _item(code: Any, value: Any) -> str:
    if code is codes.LITERAL:
        return f"[{_character(value)}]"
    if code is codes.NOT_LITERAL:
        return f"[^{_character(value)}]"
    if code is codes.ANY:
        return "[^\\n]"
    if code is codes.IN:
        return _class(value)
    if code is codes.BRANCH:
        return "(" + " | ".join(_sequence(one) or _EMPTY for one in value[1]) + ")"
    if code is codes.SUBPATTERN:
        if value[1] or value[2]:
            raise ValueError("flags within a part are not known to llama.cpp's grammars")
        return f"({_sequence(value[3]) or _EMPTY})"
    if code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
        least, most, part = value
        upper = "" if most is codes.MAXREPEAT else str(most)
        return f"({_sequence(part) or _EMPTY}){{{least},{upper}}}"
    if code is codes.AT and value in _ENDS:
        return ""  # the whole text is meant anyway
    raise ValueError(f"{str(code).lower()} is not known to llama.cpp's grammars")


def _class(members: Iterable[tuple[Any, Any]]) -> str:
    inside: list[str] = []
    negated, others = False, False
    for code, value in members:
        if code is codes.NEGATE:
            negated = True
        elif code is codes.LITERAL:
            inside.append(_character(value))
        elif code is codes.RANGE:
            inside.append(f"{_character(value[0])}-{_character(value[1])}")
        elif code is codes.CATEGORY and value in _CATEGORIES:
            characters, all_else = _CATEGORIES[value]
            inside.append(characters)
            others |= all_else
        else:
            raise ValueError(f"{str(code).lower()} is not known to llama.cpp's grammars")
    if others and (negated or len(inside) > 1):
        raise ValueError("\\D, \\S and \\W beside others in [] are not known to its grammars")
    return f"[{'^' if negated or others else ''}{''.join(inside)}]"


def _character(number: int) -> str:
    text = chr(number)
    if text in _ESCAPED:
        return _ESCAPED[text]
    if text.isprintable():
        return text
    return f"\\x{number:02X}" if number < 256 else f"\\u{number:04X}"
