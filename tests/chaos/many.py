"""Chaos on demand: ``python -m tests.chaos.many --seeds 200``, from the root of the repository.

A job of 20,000 rows on the simulated engine is run by the real command while its workers, its
coordinator and its driver get SIGKILL at moments that the seed chooses, until the job is done;
then it must be what an undisturbed run makes. Seeds share a Ray, which takes longer to start than
the job; every ``--own-ray-every``-th starts its own for each run, and there Ray itself and the
whole machine are struck, too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.chaos.blows import Victim, blows
from tests.chaos.harness import Outcome, Story
from tests.chaos.place import Place, simulated_place

OWN_RAY_EVERY = 5


def play(place: Place, seed: int) -> Outcome:
    """The story of one seed. One with trouble says how to repeat it."""
    outcome = Story(place, f"seed-{seed}", blows(seed, own_ray=place.own_ray)).play()
    if outcome.trouble:
        own = " --own-ray" if place.own_ray else ""
        outcome.trouble.append(f"again: python -m tests.chaos.many --first {seed} --seeds 1{own}")
    return outcome


def totals(outcomes: Sequence[Outcome]) -> str:
    """What many stories come to, in one line."""
    victims: Counter[Victim] = sum((o.victims for o in outcomes), Counter())
    killed = ", ".join(f"{victim} {n}" for victim, n in victims.most_common())
    shares = [o.share for o in outcomes] or [0.0]
    bad = sum(bool(o.trouble) for o in outcomes)
    return (
        f"{len(outcomes)} seeds, {bad} with trouble, {victims.total()} kills ({killed}), "
        f"{sum(o.lives for o in outcomes)} lives, {sum(o.seconds for o in outcomes):.0f} s; "
        f"rows answered again: {statistics.mean(shares):.2%} in the mean, {max(shares):.1%} at most"
    )


class Places:
    """The shared Ray and the place without one, each made when first needed."""

    def __init__(self, folder: Path, *, rows: int = 20_000, workers: int = 2) -> None:
        self._folder, self._rows, self._workers = folder, rows, workers
        self._made: dict[bool, Place] = {}
        self._stack = ExitStack()

    def place(self, *, own_ray: bool) -> Place:
        if own_ray not in self._made:
            folder = self._folder / ("own" if own_ray else "shared")
            self._made[own_ray] = self._stack.enter_context(
                simulated_place(
                    folder, os.environ, rows=self._rows, workers=self._workers, own_ray=own_ray
                )
            )
        return self._made[own_ray]

    def close(self) -> None:
        self._stack.close()


def stories(places: Places, seeds: Iterable[int], own_ray_every: int) -> Iterator[Outcome]:
    """Play the seeds one after another. ``own_ray_every``: 0 for none, 1 for all."""
    for seed in seeds:
        own_ray = bool(own_ray_every) and seed % own_ray_every == 0
        yield play(places.place(own_ray=own_ray), seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--own-ray-every", type=int, default=OWN_RAY_EVERY, metavar="N")
    parser.add_argument("--own-ray", action="store_true", help="each run starts its own Ray")
    parser.add_argument("--shared-ray", action="store_true", help="no run does")
    chosen = parser.parse_args()
    every = 1 if chosen.own_ray else 0 if chosen.shared_ray else chosen.own_ray_every
    started = time.monotonic()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="rackmill-chaos-") as folder:
        places = Places(Path(folder), rows=chosen.rows, workers=chosen.workers)
        try:
            for outcome in stories(places, range(chosen.first, chosen.first + chosen.seeds), every):
                outcomes.append(outcome)
                print(outcome, flush=True)
        finally:
            places.close()
    print(f"{totals(outcomes)}; {time.monotonic() - started:.0f} s in all")
    sys.exit(1 if any(o.trouble for o in outcomes) else 0)


if __name__ == "__main__":
    main()
