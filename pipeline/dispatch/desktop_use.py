"""When a card is left to the person who uses it, and when it is taken again. Pure: it is given what
the driver shows every second, with the time.

A desktop always holds some memory of a card and draws a little with it. What counts is what other
programs *do*: they compute or draw for a while, or take much more memory than before. Where the
driver shows no single programs (WSL2, some containers), two other signs have to do: how much free
memory falls while our engine is steady, and how busy the whole card is while none of ours is on it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum

from pipeline.humanize import duration, size

BUSY, QUIET = 0.15, 0.10  # share of the card's time that all others together use
MUCH_MEMORY, LITTLE_MEMORY = 768 << 20, 256 << 20  # bytes that they take
LEAVE_SECONDS = 5.0  # for how long, before the card is left to them
LAPSE_SECONDS = 3.0  # a shorter pause or burst changes nothing
FIRST_LOOK_SECONDS = 5.0  # before the first engine is loaded
USUAL_SECONDS = 600.0  # the least memory seen in this time is the usual
SETTLE_SECONDS = 60.0  # after loading, an engine may still take some memory
RESIGN_SECONDS = 900.0  # a little memory held this long without any use is usual
RESIGN_BYTES = 1 << 30
_SAME = 64 << 20


class Ours(Enum):
    """What of ours is on a card."""

    NOTHING = "nothing"
    LOADING = "an engine that loads, or ends"
    STEADY = "an engine at work"


@dataclass(frozen=True)
class Program:
    """A program that is not ours. ``use``: its share of the card's time, 0..1; None: the driver
    does not show it. ``memory_bytes`` likewise."""

    name: str
    memory_bytes: int | None = None
    use: float | None = None


@dataclass(frozen=True)
class CardSample:
    """A card at the time ``at`` (seconds). ``use``: of the whole card, 0..1. ``others``: the
    programs that are not ours; None where the driver shows no programs."""

    at: float
    ours: Ours
    total_bytes: int
    used_bytes: int
    use: float | None = None
    others: tuple[Program, ...] | None = ()


@dataclass(frozen=True)
class YieldDecision:
    """``away``: the card is not ours for now; ``why``: in words, empty for the first look."""

    away: bool
    why: str = ""


class Desktop:
    """One card. ``quiet_seconds``: how long nobody may have used it before we use it again."""

    def __init__(self, quiet_seconds: float) -> None:
        self._quiet_seconds = quiet_seconds
        self._call = YieldDecision(away=True)
        self._needed = min(FIRST_LOOK_SECONDS, quiet_seconds)
        self._busy = _Lasting()
        self._restless = _Lasting()
        self._quiet_since: float | None = None
        self._ours: Ours | None = None
        self._ours_since = 0.0
        self._held: dict[Ours | None, _Least] = {}  # see ``_beside``
        self._unused_since: float | None = None  # memory that is held and not used

    @property
    def call(self) -> YieldDecision:
        return self._call

    def see(self, sample: CardSample) -> YieldDecision:
        """What follows from the next sample."""
        if sample.ours is not self._ours:
            self._ours, self._ours_since = sample.ours, sample.at
            if sample.ours is Ours.LOADING:
                self._held.pop(Ours.STEADY, None)  # the next engine holds more or less
        use, user = _use(sample)
        taken = self._taken(sample)
        much = min(MUCH_MEMORY, max(LITTLE_MEMORY, (sample.total_bytes - self._usual(sample)) // 2))
        grabs = taken is not None and taken >= much
        if self._call.away:
            self._wait_for_quiet(sample, use, grabs=grabs, taken=taken or 0)
        if self._busy.lasts(use >= BUSY or grabs, sample.at, LEAVE_SECONDS):
            share = f"uses {use:.0%} of it"
            if use < BUSY:
                user, share = _holder(sample), f"takes {size(taken or 0)} more of its memory"
            self._leave(f"{user} {share}")
        return self._call

    def _leave(self, why: str) -> None:
        if not self._call.away or not self._call.why:
            self._call = YieldDecision(away=True, why=why)
        self._needed = self._quiet_seconds
        self._quiet_since = None

    def _wait_for_quiet(self, sample: CardSample, use: float, *, grabs: bool, taken: int) -> None:
        self._resign(sample, use, taken)
        restless = use >= QUIET or (grabs and bool(self._call.why))
        if self._restless.lasts(restless, sample.at, LAPSE_SECONDS):
            self._quiet_since = None
        elif not restless and self._quiet_since is None:
            self._quiet_since = sample.at
        if self._quiet_since is not None and sample.at - self._quiet_since >= self._needed:
            self._call = YieldDecision(away=False)
            self._busy, self._restless = _Lasting(), _Lasting()
            self._quiet_since = self._unused_since = None
            self._held.clear()

    def _resign(self, sample: CardSample, use: float, taken: int) -> None:
        """A browser may have more windows now than when we left: memory that is held for long, is
        not much and is not used counts as usual from now on."""
        if use >= QUIET or not _SAME < taken < RESIGN_BYTES:
            self._unused_since = None
        elif self._unused_since is None:
            self._unused_since = sample.at
        elif sample.at - self._unused_since >= RESIGN_SECONDS:
            self._held.clear()
            self._unused_since = None

    def _taken(self, sample: CardSample) -> int | None:
        """Bytes that others hold above the usual; None: it cannot be seen."""
        beside = _beside(sample)
        if beside is Ours.LOADING:
            return None
        if beside is Ours.STEADY and sample.at - self._ours_since < SETTLE_SECONDS:
            return None
        least = self._held.setdefault(beside, _Least())
        least.see(sample.at, _held(sample), forget=not self._call.away)
        return _held(sample) - least.bytes

    def _usual(self, sample: CardSample) -> int:
        """Bytes of the card in use when others held the least."""
        least = self._held.get(_beside(sample))
        return sample.used_bytes - (_held(sample) - least.bytes if least else 0)


class _Least:
    """The least that others held lately. While the card is theirs nothing is forgotten."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()  # when, bytes: ever more of them

    @property
    def bytes(self) -> int:
        return self._seen[0][1]

    def see(self, at: float, held: int, *, forget: bool) -> None:
        while self._seen and self._seen[-1][1] >= held:
            self._seen.pop()
        self._seen.append((at, held))
        while forget and at - self._seen[0][0] > USUAL_SECONDS:
            self._seen.popleft()


@dataclass(slots=True)
class _Lasting:
    """Whether something goes on, short lapses not counted."""

    since: float | None = None
    last: float = 0.0

    def lasts(self, now_true: bool, at: float, seconds: float) -> bool:
        """Whether it has been so for ``seconds``, with what is seen at ``at``."""
        if now_true:
            self.since = at if self.since is None else self.since
            self.last = at
        elif self.since is not None and at - self.last >= LAPSE_SECONDS:
            self.since = None
        return now_true and self.since is not None and at - self.since >= seconds


def quiet_in_words(seconds: float) -> str:
    """What is waited for."""
    return f"until nobody has used it for {duration(seconds)}"


def _use(sample: CardSample) -> tuple[float, str]:
    """The share of the card's time that others use, as far as it is known, and who uses most."""
    known = [p for p in sample.others or () if p.use is not None]
    use = sum(p.use or 0.0 for p in known)
    user = max(known, key=lambda p: p.use or 0.0).name if known else "another program"
    if sample.ours is Ours.NOTHING and sample.use is not None:
        use = max(use, sample.use)  # nothing of ours works there
    return min(1.0, use), user


def _beside(sample: CardSample) -> Ours | None:
    """What of ours is on the card while we measure the memory of others. None where the driver
    shows each program's memory; elsewhere only the sum over all programs is known."""
    told = sample.others is not None and all(p.memory_bytes is not None for p in sample.others)
    return None if told else sample.ours


def _held(sample: CardSample) -> int:
    """Bytes in use that are not ours; where the driver shows no programs, all bytes in use."""
    if _beside(sample) is not None:
        return sample.used_bytes
    return sum(p.memory_bytes or 0 for p in sample.others or ())


def _holder(sample: CardSample) -> str:
    known = [p for p in sample.others or () if p.memory_bytes is not None]
    return max(known, key=lambda p: p.memory_bytes or 0).name if known else "another program"
