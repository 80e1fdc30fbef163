"""Which jobs of the queue get which cards now. No I/O, except a look at their models."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pipeline.budget.cards.lookup import Card
from pipeline.budget.model_spec import ModelSpec
from pipeline.cluster.card_slots import Spread, fits_of, known_model, spread_of
from pipeline.cluster.rack_state.allocation import Key, Needs
from pipeline.cluster.rack_state.machines import Machine
from pipeline.dispatch.card_shares import Claim, share_out
from pipeline.driver.workers.slots.select_engines import candidates, most
from pipeline.job.file.load import job_from
from pipeline.job.job import Job
from pipeline.service.queue.job_db import SubmittedJob

_SERVERS = "servers of"


@dataclass
class _RackJob:
    """``since``: the time since which it has cards; None: it waits, since ``waits_since``."""

    job: Job
    spread: Spread
    fits: Callable[[Card, int], bool]
    model: ModelSpec | None = None  # None: not known yet
    holds: frozenset[Key] = frozenset()
    since: float | None = None
    waits_since: float = 0.0


@dataclass
class Allocator:
    """``turn_seconds``: how long a job keeps its cards if there are more jobs than cards.
    ``versions``: that machines need to have. ``models``: returns what is known about a model, by
    its name in a job's file. Times in epoch seconds."""

    turn_seconds: float
    versions: Mapping[str, str]
    models: Callable[[str], ModelSpec | None] = known_model
    _jobs: dict[str, _RackJob] = field(default_factory=dict)
    _hopeless: set[str] = field(default_factory=set)
    _closed: dict[str, str] = field(default_factory=dict)  # outside of their hours: until when
    _models: dict[Key, str] = field(default_factory=dict)  # card -> model of its last engine

    def learn(self, job: SubmittedJob) -> None:
        """Get to know the job. Raises UsageError if this rackmill does not understand its
        content."""
        self._of(job)

    def adopt(self, job: SubmittedJob, holds: frozenset[Key], now: float) -> None:
        """Note that the job has these cards already, from an earlier queue."""
        self._of(job)
        self._hold(job.id, holds, now)

    def deal(
        self,
        jobs: Sequence[SubmittedJob],
        machines: Sequence[Machine],
        needs: Mapping[str, Needs],
        now: float,
    ) -> dict[str, frozenset[Key]]:
        """The cards of each of ``jobs``, by job id. ``needs``: what drivers said."""
        self._hopeless.clear()
        claims = [self._claim(job, machines, needs.get(job.id, Needs()), now) for job in jobs]
        shares = {job: frozenset(c) for job, c in share_out(claims, now, self.turn_seconds).items()}
        relieved = any(cards and self._jobs[job].since is None for job, cards in shares.items())
        for job, cards in shares.items():
            entry = self._jobs[job]
            if relieved and entry.since is not None and self._is_over(entry, now):
                entry.since = now  # another job made room, so this one begins another turn
            self._hold(job, cards, now)
            self._models |= dict.fromkeys(cards, entry.job.model)
        return shares

    def is_hopeless(self, job: str) -> bool:
        """Whether no machine that is there could work on the job."""
        return job in self._hopeless

    def closed_until(self, job: str) -> str | None:
        """When the job's hours begin; None if it is within them."""
        return self._closed.get(job)

    def forget(self, job: str) -> None:
        """Forget a job that has ended."""
        self._closed.pop(job, None)
        self._jobs.pop(job, None)

    def _is_over(self, entry: _RackJob, now: float) -> bool:
        return entry.since is not None and now - entry.since >= self.turn_seconds

    def _claim(
        self, job: SubmittedJob, machines: Sequence[Machine], needs: Needs, now: float
    ) -> Claim[Key]:
        entry = self._of(job)
        found, _ = candidates(entry.job, machines, self.versions, entry.spread)
        if not found:
            self._hopeless.add(job.id)
        self._closed.pop(job.id, None)
        when = entry.job.resources.when
        at = datetime.fromtimestamp(now, UTC)
        if when is not None and not when.open(at):
            change = when.next_change(at)
            self._closed[job.id] = "never" if change is None else when.wall_clock(change)
            found = []  # others have the cards until then
        # if it fits nowhere, its driver says so, and what would help
        found = [p for p in found if p.card is None or entry.fits(p.card, p.cards)] or found
        # a server takes no card of the rack: it gets a key of the job's own
        keys = [
            tuple(sorted(one.slots[0].shared_keys)) or ((f"{_SERVERS} {job.id}", number),)
            for number, one in enumerate(found)
        ]
        slots = [slot for slot in keys if not needs.useless.intersection(slot)]
        # cards on which an engine of its model may still be loaded come first
        slots.sort(key=lambda slot: self._models.get(slot[0]) != entry.job.model)
        wants = [n for n in (most(entry.job), needs.most) if n is not None]
        if entry.since is None and not entry.waits_since:
            entry.waits_since = min(job.submitted, now)
        return Claim(
            job.id,
            job.priority,
            job.submitted,
            slots,
            min(wants, default=None),
            entry.holds & {card for slot in slots for card in slot},
            entry.since,
            entry.waits_since,
            math.inf if job.deadline is None else job.deadline,
        )

    def _of(self, job: SubmittedJob) -> _RackJob:
        entry = self._jobs.get(job.id)
        if entry is None:
            content = job_from(job.content)
            entry = _RackJob(content, spread_of(content, None), fits_of(content, None))
            self._jobs[job.id] = entry
        if entry.model is None:  # its driver may have fetched it by now
            model = entry.model = self.models(entry.job.model)
            entry.spread = spread_of(entry.job, model)
            entry.fits = fits_of(entry.job, model)
        return entry

    def _hold(self, job: str, cards: frozenset[Key], now: float) -> None:
        entry = self._jobs[job]
        if cards and entry.since is None:
            entry.since = now
        elif not cards and entry.since is not None:
            entry.since, entry.waits_since = None, now
        entry.holds = cards
