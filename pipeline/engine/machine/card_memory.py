"""Waiting for a card's memory: what a process held that was killed comes back only after a while.

The driver frees memory when a process has ended, and a process that was killed in the middle of a
kernel, or has children, ends seconds after its parent (vLLM #1908, Ray #54364).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from enum import Enum

from pipeline.engine.gpu.nvml import free_gpu_memory, held_by, holders
from pipeline.engine.gpu.usable import gpus, offer
from pipeline.engine.gpu.visible import VARIABLE
from pipeline.humanize import size

_LOOK_SECONDS = 0.5
_PATIENCE_SECONDS = 120.0
_STILL_SECONDS = 15.0  # without more coming free: whoever holds the rest means to keep it
_NOTICEABLE = 16 << 20  # bytes

Reading = tuple[float, int]  # when, in seconds; bytes that are free


class MemoryWait(Enum):
    """ENOUGH is free; WAIT: more may come; NO_MORE will come, go on with what there is."""

    ENOUGH = "enough"
    WAIT = "wait"
    NO_MORE = "no more"


def memory_wait(readings: Sequence[Reading], wanted: int) -> MemoryWait:
    """What to do after these ``readings``, oldest first; ``wanted`` bytes should be free."""
    if readings[-1][1] >= wanted:
        return MemoryWait.ENOUGH
    began, most = grown, _ = readings[0]
    for when, free in readings:
        if free >= most + _NOTICEABLE:
            grown, most = when, free
    now = readings[-1][0]
    hopeless = now - began >= _PATIENCE_SECONDS or now - grown >= _STILL_SECONDS
    return MemoryWait.NO_MORE if hopeless else MemoryWait.WAIT


def wait_for_memory(
    free: Callable[[], int],
    wanted: int,
    say: Callable[[str], None],
    *,
    held: Callable[[], str] = lambda: "",
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Wait until ``wanted`` bytes are free, as long as there is hope. Whether they are. ``held``:
    by whom, in words."""
    readings = [(clock(), free())]
    verdict = memory_wait(readings, wanted)
    if verdict is MemoryWait.WAIT:
        by = f"; {who}" if (who := held()) else ""
        say(f"waiting for the card's memory: {size(readings[0][1])} of {size(wanted)} are free{by}")
    while verdict is MemoryWait.WAIT:
        sleep(_LOOK_SECONDS)
        readings.append((clock(), free()))
        verdict = memory_wait(readings, wanted)
    return verdict is MemoryWait.ENOUGH


def wait_for_own_cards(share: float, say: Callable[[str], None], number: int = 1) -> None:
    """Wait until ``share`` of the memory of each card of an engine on ``number`` cards is free: of
    the first that this process sees, as vLLM takes them."""
    for gpu in offer().gpus[:number]:
        _wait_for(gpu.index, share, say)


def _wait_for(index: int, share: float, say: Callable[[str], None]) -> None:
    wanted = int(share * free_gpu_memory(index)[1])
    wait_for_memory(
        lambda: free_gpu_memory(index)[0], wanted, say, held=lambda: held_by(holders(index))
    )


def own_cards() -> list[int]:
    """The driver's numbers of the cards that this process was given; none where it was given
    none."""
    return [gpu.index for gpu in gpus()] if VARIABLE in os.environ else []
