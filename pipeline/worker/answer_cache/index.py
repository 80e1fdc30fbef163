"""Which file may hold an answer: the first 8 bytes of every key, sorted, 10 bytes per answer.

Kept as a few sorted arrays of falling size (a log-structured merge): a new file is a small array,
which is merged into the one before it as soon as that one is not four times as large.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_RATIO = 4  # of neighbouring arrays' sizes at least, so that there are few of them
_FILES_AT_MOST = 1 << 16  # in one array: its files are numbered in two bytes


@dataclass(frozen=True)
class _Segment:
    heads: NDArray[np.uint64]  # sorted
    places: NDArray[np.uint16]  # heads[i] is in files[places[i]]
    files: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        return self.heads.nbytes + self.places.nbytes


class AnswerIndex:
    """Heads of keys to names of files. One thread at a time may add; any may ask meanwhile."""

    def __init__(self, limit_bytes: int = 256 << 20) -> None:
        """Past ``limit_bytes`` the answers that were added first are forgotten."""
        self._limit = limit_bytes
        self._segments: tuple[_Segment, ...] = ()  # replaced as a whole, never changed

    def __len__(self) -> int:
        return sum(len(segment.heads) for segment in self._segments)

    @property
    def nbytes(self) -> int:
        return sum(segment.nbytes for segment in self._segments)

    def add(self, file: str, heads: NDArray[np.uint64]) -> None:
        """A file holds answers to keys with these heads."""
        if not len(heads):
            return
        new = _Segment(np.sort(heads), np.zeros(len(heads), np.uint16), (file,))
        segments = list(self._segments)
        while segments and self._belong_together(segments[-1], new):
            new = _merged(segments.pop(), new)
        segments.append(new)
        while len(segments) > 1 and sum(s.nbytes for s in segments) > self._limit:
            segments.pop(0)
        self._segments = tuple(segments)

    def _belong_together(self, old: _Segment, new: _Segment) -> bool:
        return (
            len(old.heads) < _RATIO * len(new.heads)
            and len(old.files) + len(new.files) <= _FILES_AT_MOST
            and old.nbytes + new.nbytes <= self._limit // 4  # what is forgotten at once is a part
        )

    def files(self, head: int) -> Iterator[str]:
        """The files that hold a key with this head, those added last first."""
        wanted = np.uint64(head)
        for segment in reversed(self._segments):
            place = int(segment.heads.searchsorted(wanted))
            while place < len(segment.heads) and segment.heads[place] == wanted:
                yield segment.files[segment.places[place]]
                place += 1


def _merged(old: _Segment, new: _Segment) -> _Segment:
    heads = np.concatenate([old.heads, new.heads])
    places = np.concatenate([old.places, new.places + np.uint16(len(old.files))])
    order = np.argsort(heads, kind="stable")
    return _Segment(heads[order], places[order], old.files + new.files)
