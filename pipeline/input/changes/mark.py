"""Identifies the rows of a file, to recognize them in a file that grew."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mark:
    """``whole``: the hash of ``size`` bytes. ``tail``: the hash of the next ``tail_size`` bytes, a
    last line without end; "" if there is none."""

    whole: str = ""
    size: int = 0
    tail: str = ""
    tail_size: int = 0
