"""Which cards of a rack a submitted job may use now (written by the queue), and which it could use
(written by the job's driver). Both use the rack's head."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import TypeAdapter

from pipeline.cluster.rack_state.gcs import Gcs

# prefixes of values' names; the job's name follows
_ALLOTTED, _NEEDS = "allotted/", "needs/"

OTHERS = "the queue"  # why a job may use no card now: others have them

Key = tuple[str, int]  # Ray's ID of the machine, and the number of its card


@dataclass(frozen=True)
class Allocation:
    """``cards``: those that the job may use; if it may use none, ``why`` it has to stop."""

    cards: frozenset[Key] = frozenset()
    why: str = ""


@dataclass(frozen=True)
class Needs:
    """``most``: cards that the job could use at once (None: any number); ``useless``: those on
    which it does not run, or for which it has nothing left to do."""

    most: int | None = None
    useless: frozenset[Key] = frozenset()


_ALLOCATION_JSON, _NEEDS_JSON = TypeAdapter(Allocation), TypeAdapter(Needs)


class AllocatedCards:
    """The cards of the queue's job ``job``, for its driver. Raises HeadGone. ``patient``: without
    cards the job waits for some; other jobs end, and the queue starts them again."""

    def __init__(self, gcs: Gcs, job: str, *, patient: bool = False) -> None:
        self._gcs, self._job, self.patient = gcs, job, patient
        self._said: Needs | None = None

    def look(self) -> Allocation | None:
        """None if nothing was written."""
        return allotted_to(self._gcs, self._job)

    def say(self, needs: Needs) -> None:
        if needs != self._said:
            self._gcs.put(_NEEDS + self._job, _NEEDS_JSON.dump_json(needs))
            self._said = needs


def allot(gcs: Gcs, job: str, allotment: Allocation) -> None:
    """For the queue: tell the job's driver."""
    gcs.put(_ALLOTTED + job, _ALLOCATION_JSON.dump_json(allotment))


def allotted_to(gcs: Gcs, job: str) -> Allocation | None:
    """The last allocation that any queue wrote for the job's driver."""
    content = gcs.get(_ALLOTTED + job)
    return None if content is None else _ALLOCATION_JSON.validate_json(content)


def needs_of(gcs: Gcs, jobs: Iterable[str]) -> dict[str, Needs]:
    """The needs that drivers of ``jobs`` have written."""
    found = gcs.all([_NEEDS + job for job in jobs])
    return {name.removeprefix(_NEEDS): _NEEDS_JSON.validate_json(c) for name, c in found.items()}


def forget(gcs: Gcs, job: str) -> None:
    """The job has no driver any more."""
    gcs.delete(_ALLOTTED + job)
    gcs.delete(_NEEDS + job)
