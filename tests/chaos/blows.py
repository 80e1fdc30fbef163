"""What is killed when: a pure function of the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

_MOST_BLOWS = 3
_LATEST = 0.97  # of the rows; after that a run is over before anything can be killed
_LONGEST_DELAY = 0.4  # seconds: so that blows do not fall on commits alone
_STARTING_SECONDS = 4.0  # about what a driver takes until its workers work
_EARLY = 0.2  # of the blows against drivers fall while they start


class Victim(StrEnum):
    """Whose process gets SIGKILL. ``MACHINE``: every process of the run at once, as by a power
    cut. ``RAY``: the process that starts and watches over Ray's workers (its raylet)."""

    WORKER = "worker"
    COORDINATOR = "coordinator"
    DRIVER = "driver"
    MACHINE = "machine"
    RAY = "Ray"


@dataclass(frozen=True)
class Blow:
    """SIGKILL for ``victim``, ``delay`` seconds after ``share`` of the rows were committed; or,
    where ``share`` is None, so many seconds after the driver was started."""

    victim: Victim
    share: float | None
    delay: float
    dice: float = 0.0  # 0..1: which worker

    @property
    def ends_driver(self) -> bool:
        """Whether the command must be run again."""
        return self.victim in (Victim.DRIVER, Victim.MACHINE, Victim.RAY)

    def __str__(self) -> str:
        when = "while starting" if self.share is None else f"at {self.share:.0%}"
        return f"{self.victim} {when}"


def blows(seed: int, *, own_ray: bool) -> tuple[Blow, ...]:
    """The blows of a seed, in their order. ``own_ray``: each driver starts a Ray of its own, so
    that Ray and the whole machine can be struck, too."""
    dice = random.Random(f"chaos {seed} {own_ray}")
    victims = [Victim.WORKER] * 4 + [Victim.COORDINATOR] * 3 + [Victim.DRIVER] * 3
    if own_ray:
        victims += [Victim.MACHINE, Victim.RAY]
    shares = sorted(dice.uniform(0.0, _LATEST) for _ in range(dice.randint(1, _MOST_BLOWS)))
    found = []
    for share in shares:
        victim = dice.choice(victims)
        blow = Blow(victim, share, dice.uniform(0.0, _LONGEST_DELAY), dice.random())
        if blow.ends_driver and dice.random() < _EARLY:
            blow = Blow(victim, None, dice.uniform(0.0, _STARTING_SECONDS), dice.random())
        found.append(blow)
    return tuple(found)
