"""Who has a card's memory, in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.engine.gpu.nvml import Holder
from pipeline.humanize import size

_MOST = 4


def held_by(holders: Sequence[Holder]) -> str:
    """ "held by game.exe (pid 12, 18.0 GiB), Xorg (pid 7, 0.5 GiB)"."""
    if not holders:
        return "the driver does not tell which programs hold it"
    told = [_one(holder) for holder in holders[:_MOST]]
    more = len(holders) - _MOST
    return "held by " + ", ".join([*told, *([f"and {more} more"] if more > 0 else [])])


def _one(holder: Holder) -> str:
    name = holder.name or "a program of another user or container"
    memory = "" if holder.memory_bytes is None else f", {size(holder.memory_bytes)}"
    return f"{name} (pid {holder.pid}{memory})"
