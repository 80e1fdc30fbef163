"""The mark in front of text that means a control token, on its way to the model.

It consists of surrogates, which no text has, and is random for each process, so no row can contain
it. Code that inspects a text instead of passing it on (compares, searches, measures, encodes it)
sees it without marks: the result must be the same in every process.
"""

from __future__ import annotations

import secrets
from typing import Any

MARK = "".join(chr(0xD800 + secrets.randbelow(0x400)) for _ in range(4))


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
