"""What stands for the rows of a file, so that they are known again in a file that grew."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mark:
    """``whole``: the hash of ``size`` bytes. ``tail``: that of ``tail_size`` more, a last line
    without end; "" where there is none."""

    whole: str = ""
    size: int = 0
    tail: str = ""
    tail_size: int = 0
