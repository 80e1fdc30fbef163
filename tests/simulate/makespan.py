"""What the time of a simulated rack is held against."""

from __future__ import annotations

from collections.abc import Sequence


def least_makespan(
    work: float, speeds: Sequence[float], up: Sequence[Sequence[tuple[float, float]]]
) -> float:
    """When ``work`` could be done at best by cards of these speeds while they were there.

    What the cards that died had computed in vain is not taken off: it counts against whoever
    lost it. Times in seconds.
    """
    changes = sorted(
        (time, sign * speed)
        for speed, spans in zip(speeds, up, strict=True)
        for start, stop in spans
        for time, sign in ((start, 1.0), (stop, -1.0))
    )
    now = speed = 0.0
    for time, change in changes:
        if speed > 0 and work <= speed * (time - now) * (1 + 1e-12):
            return now + work / speed
        work -= speed * (time - now)
        now, speed = time, speed + change
    return now
