"""The mark in front of what means a control token in text that is on its way to the model.

It is of surrogates, which no text has, and drawn for each process, so that no row can hold it.
Whoever looks at a text rather than passes it on (compares, searches, measures, encodes it) sees it
without marks: what they find must be the same in every process.
"""

from __future__ import annotations

import secrets
from typing import Any

MARK = "".join(chr(0xD800 + secrets.randbelow(0x400)) for _ in range(4))


def unmarked(text: str) -> str:
    """A marked text as people may read it."""
    return text.replace(MARK, "")


def looked_at(value: Any) -> Any:
    """A template's value without marks, also of the texts in its lists and mappings."""
    if isinstance(value, str):
        return unmarked(value) if MARK in value else value
    if isinstance(value, list | tuple):
        return type(value)([looked_at(one) for one in value])
    if isinstance(value, dict):
        return {looked_at(key): looked_at(one) for key, one in value.items()}
    return value
