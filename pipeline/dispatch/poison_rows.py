"""Which rows kill engines: found with few deaths, and if possible never by mistake.

Rows that were in an engine when it died may have killed it, or it died of something else. Once is
chance: they simply go first again. Rows that were there more often than chance explains are set
apart and tried in pieces, each alone in its engine. A piece whose rows get their results is
cleared. A piece that kills is cut into smaller ones, and the rest of its case is cleared, because
its deaths are explained. A death costs a restart and a trial only seconds, so a piece is cut into
many (``best_parts``). A row that was alone at so many deaths that chance is out of the question,
and at least at two, is quarantined: no engine sees it again. (At least at three where the engines'
processes vanished without a message, as a process does that somebody kills.)

How many deaths chance explains follows from how often engines die without the row: on a calm rack
two deaths say a lot, on one whose machines are taken away every minute they say nothing. Pure:
times are passed in, in seconds.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from pipeline.dispatch.events import Blame, UnitRange

APART = ""  # the holder of rows that are set apart: no worker
LEAST_ALONE = 2  # deaths of a row alone, before it is quarantined
_LEAST_ALONE_UNTOLD = 3  # of processes that left no message, as when killed from outside

_RESTART_SECONDS, _TRIAL_SECONDS = 30.0, 3.0
_USUAL_DEATHS, _USUAL_SECONDS = 0.05, 360.0  # the prior: one death in two hours
_FEW_OTHERS = 1  # deaths without the row, from which their plain rate counts
_BUSY_AT_LEAST = 10.0
_CHANCE_APART, _CHANCE_GUILTY = 0.05, 3e-6  # that an innocent row is set apart, is quarantined
_CHANCE_GUILTY_UNTOLD = 1e-7
_SURELY_APART, _SURELY_GUILTY = 6, 12  # deaths, whatever chance says: a search has to end
_MOST_PARTS = 64
_LONGEST_MIXED, _LONGEST_ALONE, _SHORTEST = 120.0, 12.0, 0.25  # seconds that count


@dataclass(frozen=True, slots=True)
class SuspectRows:
    """Rows that are suspected alike. ``deaths``: engines that died with them; ``alone``: how many
    of those had nothing else (for a single row only).

    ``exposure``: the sum of the logarithms of the seconds for which such engines had them, over all
    ``deaths`` but the first; ``alone_exposure``: over those that count in ``alone``.
    """

    spans: tuple[UnitRange, ...]
    deaths: int = 1
    exposure: float = 0.0
    alone: int = 0
    alone_exposure: float = 0.0
    why: str = ""
    case: int = 0  # pieces of one case explain the same deaths

    @property
    def rows(self) -> int:
        return sum(span.rows for span in self.spans)


@dataclass(frozen=True, slots=True)
class DeathMemory:
    """What is known of deaths, for whoever continues from here. ``deaths``: of engines with rows in
    them, ``lost``: of all; ``busy``: seconds that all of them worked."""

    met: tuple[SuspectRows, ...]
    waiting: tuple[SuspectRows, ...]
    quarantined: tuple[SuspectRows, ...]
    cases: int
    deaths: int
    explained: int
    lost: int
    busy: float


@dataclass(slots=True)
class _Trial:
    piece: SuspectRows
    begun: float | None = None  # when an engine began with it


class PoisonRows:
    """The rows under suspicion. It learns of deaths and results, and says what to try next."""

    def __init__(self) -> None:
        self._met: list[SuspectRows] = []  # not set apart now; disjoint
        self._waiting: deque[SuspectRows] = deque()  # set apart, to be tried
        self._trials: dict[str, _Trial] = {}  # by worker
        self._quarantined: list[SuspectRows] = []  # single rows
        self._carried: dict[str, list[SuspectRows]] = {}  # those that a worker writes errors for
        self._cases = 0
        self._deaths = 0  # of engines with rows in them
        self._explained = 0  # of those, by rows that are quarantined

    @property
    def apart(self) -> list[SuspectRows]:
        """Pieces to keep from everyone until ``next_trial`` or ``next_quarantined`` asks for
        them."""
        return [*self._waiting, *self._quarantined]

    def losses(self, spans: Iterable[UnitRange]) -> tuple[int, str]:
        """How many engines died with some of these rows, at most, and why the last one did."""
        spans = list(spans)
        worst = SuspectRows(())
        for piece in self._met:
            if piece.deaths > (worst.deaths if worst.spans else 0) and common(piece.spans, spans):
                worst = piece
        return (worst.deaths, worst.why) if worst.spans else (0, "")

    # -- deaths

    def died(
        self, flights: Sequence[UnitRange], seconds: float, busy: float, why: str
    ) -> list[SuspectRows]:
        """An engine died with ``flights`` in it, perhaps among others, after ``seconds`` at most.

        ``busy``: seconds that all engines worked up to now. Returns what is to be set apart.
        """
        if not flights:
            return []
        self._deaths += 1
        felt = math.log(min(max(seconds, _SHORTEST), _LONGEST_MIXED))
        hit: list[SuspectRows] = []
        missed: list[SuspectRows] = []
        new = tuple(flights)
        for piece in self._met:
            inside = common(piece.spans, flights)
            outside = _without(piece.spans, flights)
            new = _without(new, inside)
            if inside:
                met = (piece.deaths + 1, piece.exposure + felt)
                hit.append(replace(piece, spans=inside, deaths=met[0], exposure=met[1], why=why))
            if outside:
                missed.append(replace(piece, spans=outside))
        first = [SuspectRows(new, why=why)] if new else []
        suspicious = [p for p in hit if self._is_suspicious(p, busy)]
        self._met = missed + first + [p for p in hit if p not in suspicious]
        return self._set_apart(suspicious) if suspicious else []

    def died_alone(
        self, worker: str, at: float, busy: float, why: str, blame: Blame = Blame.UNTOLD
    ) -> bool | None:
        """The engine of ``worker`` died. Returns whether a trial explains it; None where it had
        none.

        ``apart`` then says what is to be set apart, perhaps again.
        """
        self._uncarry(worker)
        trial = self._trials.pop(worker, None)
        if trial is None:
            return None
        piece = trial.piece
        if not piece.spans:
            return False
        if trial.begun is None:  # the engine died without having seen it
            self._waiting.appendleft(piece)
            return False
        self._deaths += 1
        felt = math.log(min(max(at - trial.begun, _SHORTEST), _LONGEST_ALONE))
        piece = replace(piece, deaths=piece.deaths + 1, exposure=piece.exposure + felt, why=why)
        self._clear_case(piece.case)
        if piece.rows > 1:
            self._set_apart([piece])
            return True
        alone, exposure = piece.alone + 1, piece.alone_exposure + felt
        piece = replace(piece, alone=alone, alone_exposure=exposure)
        if self._is_guilty(piece, busy, blame):
            self._explained += piece.deaths
            self._quarantined.append(piece)
        else:
            self._waiting.appendleft(piece)
        return True

    def _set_apart(self, pieces: Sequence[SuspectRows]) -> list[SuspectRows]:
        """Make a case of these rows; the pieces to try, in order."""
        self._cases += 1
        spans = sorted(span for piece in pieces for span in piece.spans)
        worst = max(pieces, key=lambda piece: piece.deaths)
        whole = replace(worst, spans=tuple(spans), case=self._cases)
        rows = whole.rows
        parts = best_parts(rows)
        cuts = [rows * part // parts for part in range(parts + 1)]
        new = [
            replace(whole, spans=_rows_of(spans, start, stop))
            for start, stop in pairwise(cuts)
            if stop > start
        ]
        self._waiting.extendleft(reversed(new))
        return new

    def _clear_case(self, case: int) -> None:
        """The case is explained: its other pieces are hardly suspected any more."""
        others = [piece for piece in self._waiting if piece.case == case]
        self._waiting = deque(piece for piece in self._waiting if piece.case != case)
        self._met += [SuspectRows(piece.spans, why=piece.why) for piece in others]

    # -- trials

    def next_trial(self, worker: str) -> SuspectRows | None:
        """A piece for ``worker``, which has no other rows now and gets none meanwhile."""
        if not self._waiting:
            return None
        piece = self._waiting.popleft()
        self._trials[worker] = _Trial(piece)
        return piece

    def begun(self, worker: str, at: float) -> None:
        """The engine of ``worker`` has begun with its piece."""
        trial = self._trials.get(worker)
        if trial is not None and trial.begun is None:
            trial.begun = at

    def ended(self, worker: str) -> None:
        """The worker no longer has its piece: what is not committed goes back to the other rows,
        except what is quarantined."""
        self._uncarry(worker)
        trial = self._trials.pop(worker, None)
        if trial is not None and trial.piece.spans:
            self._met.append(replace(trial.piece, case=0))

    def next_quarantined(self, worker: str) -> SuspectRows | None:
        """A row for which ``worker`` is to write an error row. It stays so until ``settled``."""
        if not self._quarantined:
            return None
        piece = self._quarantined.pop(0)
        self._carried.setdefault(worker, []).append(piece)
        return piece

    def given_back(self, worker: str, spans: Sequence[UnitRange]) -> bool:
        """The worker no longer has these rows. Returns whether some of them are quarantined."""
        carried = self._carried.pop(worker, [])
        back = [piece for piece in carried if common(piece.spans, spans)]
        self._quarantined += back
        if len(back) < len(carried):
            self._carried[worker] = [piece for piece in carried if piece not in back]
        return bool(back)

    def _uncarry(self, worker: str) -> None:
        self._quarantined += self._carried.pop(worker, [])

    def settled(self, span: UnitRange) -> None:
        """These rows have their result."""
        gone = (span,)
        self._met = list(_left(self._met, gone))
        self._waiting = deque(_left(self._waiting, gone))
        self._quarantined = list(_left(self._quarantined, gone))
        for worker, pieces in list(self._carried.items()):
            self._carried[worker] = list(_left(pieces, gone))
            if not self._carried[worker]:
                del self._carried[worker]
        for trial in self._trials.values():
            trial.piece = replace(trial.piece, spans=_without(trial.piece.spans, gone))

    def memory(self, lost: int, busy: float) -> DeathMemory:
        """All that is known. Running trials are left out: their rows count like others."""
        tried = [replace(t.piece, case=0) for t in self._trials.values() if t.piece.spans]
        return DeathMemory(
            met=(*self._met, *tried),
            waiting=tuple(self._waiting),
            quarantined=(*self._quarantined, *(p for some in self._carried.values() for p in some)),
            cases=self._cases,
            deaths=self._deaths,
            explained=self._explained,
            lost=lost,
            busy=busy,
        )

    def recall(self, memory: DeathMemory, is_done: Callable[[int], bool]) -> None:
        """At the start, or soon after: take in what another one knew. ``is_done``: of a unit."""
        pieces = (*memory.met, *memory.waiting, *memory.quarantined)
        gone = [span for piece in pieces for span in piece.spans if is_done(span.unit)]
        gone += [span for piece in self._met for span in piece.spans]
        self._met += _left(memory.met, gone)
        self._waiting += _left(memory.waiting, gone)
        self._quarantined += _left(memory.quarantined, gone)
        self._cases = max(self._cases, memory.cases)
        self._deaths += memory.deaths
        self._explained += memory.explained

    def __bool__(self) -> bool:
        return bool(
            self._met or self._waiting or self._trials or self._quarantined or self._carried
        )

    # -- what chance explains

    def _rate(self, own_deaths: int, busy: float) -> float:
        """Deaths per second of work that the row had nothing to do with."""
        others = max(0, self._deaths - self._explained - own_deaths)
        believed = (others + _USUAL_DEATHS) / (busy + _USUAL_SECONDS)
        if others < _FEW_OTHERS:
            return believed
        return max(believed, others / max(busy, _BUSY_AT_LEAST))

    def _is_suspicious(self, piece: SuspectRows, busy: float) -> bool:
        again = piece.deaths - 1
        if again < 1:
            return False
        chance = again * math.log(self._rate(piece.deaths, busy)) + piece.exposure
        return piece.deaths >= _SURELY_APART or chance <= math.log(_CHANCE_APART)

    def _is_guilty(self, piece: SuspectRows, busy: float, blame: Blame) -> bool:
        told = blame is Blame.TOLD
        if piece.alone < (LEAST_ALONE if told else _LEAST_ALONE_UNTOLD):
            return False
        most = _CHANCE_GUILTY if told else _CHANCE_GUILTY_UNTOLD
        chance = piece.alone * math.log(self._rate(piece.deaths, busy)) + piece.alone_exposure
        return piece.alone >= _SURELY_GUILTY or chance <= math.log(most)


def best_parts(
    rows: int,
    restart_seconds: float = _RESTART_SECONDS,
    trial_seconds: float = _TRIAL_SECONDS,
) -> int:
    """Into how many pieces to cut ``rows``, one of which kills, to find it at the least cost.

    With k pieces at every level there are log_k(rows) levels; at each one a piece kills, after (k -
    1) / 2 others on average.
    """

    def cost(parts: int) -> float:
        levels, left = 0, rows
        while left > 1:
            left = -(-left // parts)
            levels += 1
        return levels * ((parts - 1) / 2 * trial_seconds + restart_seconds)

    return min(range(2, min(rows, _MOST_PARTS) + 1), key=cost, default=1)


def common(spans: Iterable[UnitRange], others: Iterable[UnitRange]) -> tuple[UnitRange, ...]:
    """The rows that are in both; ``others`` are disjoint."""
    others = list(others)
    return tuple(
        UnitRange(a.unit, max(a.start, b.start), min(a.stop, b.stop))
        for a in spans
        for b in others
        if a.unit == b.unit and max(a.start, b.start) < min(a.stop, b.stop)
    )


def _without(spans: Iterable[UnitRange], gone: Iterable[UnitRange]) -> tuple[UnitRange, ...]:
    """The rows of ``spans`` that are not in ``gone``."""
    left = list(spans)
    for hole in gone:
        left = [
            UnitRange(span.unit, start, stop)
            for span in left
            for start, stop in (
                ((span.start, span.stop),)
                if span.unit != hole.unit
                else (
                    (span.start, min(span.stop, hole.start)),
                    (max(span.start, hole.stop), span.stop),
                )
            )
            if start < stop
        ]
    return tuple(left)


def _left(pieces: Iterable[SuspectRows], gone: Sequence[UnitRange]) -> Iterator[SuspectRows]:
    for piece in pieces:
        spans = _without(piece.spans, gone)
        if spans == piece.spans:
            yield piece
        elif spans:
            yield replace(piece, spans=spans)


def _rows_of(spans: Iterable[UnitRange], start: int, stop: int) -> tuple[UnitRange, ...]:
    """Rows ``start``..``stop`` of the spans one after the other."""
    found: list[UnitRange] = []
    for span in spans:
        first, last = max(0, start), min(span.rows, stop)
        if first < last:
            found.append(UnitRange(span.unit, span.start + first, span.start + last))
        start, stop = start - span.rows, stop - span.rows
    return tuple(found)
