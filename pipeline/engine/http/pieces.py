"""Answers in pieces that come while the server writes: server-sent events, or lines of JSON."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import Any, Protocol

# llama.cpp's older servers have errors in a field of their own
_FIELDS = (b"data:", b"error:")


class Pieces(Protocol):
    """Makes one answer of the pieces of a stream."""

    def take(self, piece: Mapping[str, Any]) -> int:
        """One more piece; the tokens up to now, about: nearly every piece is one."""

    @property
    def answer(self) -> dict[str, Any] | None:
        """As if it had come at once; None before its end has come."""


class NamedPieces:
    """The text is at the key ``text`` of each piece, and the last one, which has the key ``last``
    set, is the answer but for that."""

    def __init__(self, text: str, last: str) -> None:
        self._text, self._last = text, last
        self._texts: list[str] = []
        self._end: Mapping[str, Any] | None = None

    def take(self, piece: Mapping[str, Any]) -> int:
        text = piece.get(self._text)
        if isinstance(text, str) and text:
            self._texts.append(text)
        if piece.get(self._last):
            self._end = piece
        return len(self._texts)

    @property
    def answer(self) -> dict[str, Any] | None:
        if self._end is None:
            return None
        return {**self._end, self._text: "".join(self._texts)}


async def objects_in(parts: AsyncIterable[bytes]) -> AsyncIterator[dict[str, Any]]:
    """The objects of a stream that comes in ``parts``, which may end anywhere. What is none is
    passed over: comments, names of events, a mark of the end, a last line that was cut off."""
    rest = b""
    async for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            if (found := _object(line)) is not None:
                yield found
    if (found := _object(rest)) is not None:
        yield found


def _object(line: bytes) -> dict[str, Any] | None:
    line = line.strip()
    for field in _FIELDS:
        line = line.removeprefix(field)
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
