"""Which request next: the rows that wait for admission to one engine, a few hundred of them.

Pure: rows in, one row out, no clock. As long as the cache has room for whatever comes, rows go in
order of arrival, unless prefixes would be lost and computed again by that: another order would gain
nothing, and the last rows would end later or earlier by chance. Otherwise the first rule that
applies:

1. A row that was passed over too often goes before all others, so that none starves and units
   of work complete.
2. When no more rows will come and about as many wait as run: the row expected to be longest, if it
   is much longer than the others. The last ones then end together. (Where expectations differ
   little, as by the prompt's length, this would be an order by length: 0.4 % slower on ShareGPT.)
3. Among the rows that share most whole KV blocks with what was admitted last, or equally much
   (usually: the instructions that all have in common), the one of the oldest few that best keeps
   the running sum of prefill to decode tokens at the window's ratio (error diffusion): so compute
   and cache are busy at the same time, and the order is never one by length.
4. If that row does not fit, the largest of the same few that does, a few times at most. (Among
   all that wait, this would be an order by length after all: 1 % slower on ShareGPT.) If its
   prompt takes a large part of the cache, the others would have to end before it fits, and the
   cache would be nearly empty: then as often as something fits, until it was passed over too often
   or all of the few are so large. They then follow each other into the room that the first of them
   waited for.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

_FEW = 16  # of the oldest rows, among which rule 3 chooses
_SEEN = 64  # recent rows, over which ``grouped`` and ``_scattered`` are means
_SCATTERED = 0.25  # above this share prefixes are worth another order
_LARGE = 0.2  # of the cache, for a prompt
_LONG = 4.0  # times the mean of the waiting rows: much longer
_FORGET = 0.9  # of the ratio's error, per choice: admissions long ago have ended


@dataclass(slots=True)
class WaitingRow:
    """A row that waits. Lengths in tokens; ``keys``: see ``admission.demand.block_keys``;
    ``cache_share``: the part of the cache that the prompt takes.

    ``arrival`` and ``shared_blocks`` (whole blocks in common with rows admitted recently) are set
    by the window.
    """

    id: int
    prompt_tokens: int
    expected_tokens: float
    max_new_tokens: int
    keys: tuple[int, ...] = ()
    cache_share: float = 0.0
    arrival: int = field(default=-1, init=False)
    shared_blocks: int = field(default=0, init=False)

    @property
    def size(self) -> float:
        """Tokens when it is expected to end."""
        return self.prompt_tokens + self.expected_tokens


class Window:
    """The waiting rows of one engine. A choice among 512 costs about 10 µs, not counting ``fits``.

    Prefixes are found in trie order: in a list sorted by block keys, the row with the longest
    prefix in common is one of the neighbours.
    """

    def __init__(self, block_size: int, *, max_passed: int = 512, max_fills: int = 4) -> None:
        """``max_passed``: how many later rows may go before a row. ``max_fills``: how many smaller
        rows in a row may go before the best one, unless that one is large."""
        self._block_size = block_size
        self._max_passed = max_passed
        self._max_fills = max_fills
        self._rows: dict[int, WaitingRow] = {}  # by arrival
        self._arrivals: dict[int, int] = {}  # by id
        self._queue: deque[int] = deque()  # arrivals; those that are gone are skipped
        self._trie: list[tuple[tuple[int, ...], int]] = []  # (keys, arrival), sorted
        self._by_shared: dict[int, list[int]] = {}  # shared blocks -> arrivals, sorted
        self._resident: list[tuple[tuple[int, ...], int]] = []  # admitted lately, sorted
        self._admitted: deque[tuple[tuple[int, ...], int]] = deque()  # the same, oldest first
        self._added = self._gone = 0
        self._prefill = self._decode = 0.0  # sums over the waiting rows, tokens
        self._error = 0.0  # tokens of prefill admitted beyond the ratio
        self._fills = 0
        # share of the rows added lately that have a prefix in common with another, beyond what
        # all have in common: where there are such, a wide window finds more of them
        self.grouped = 0.0
        # share of the rows that were oldest lately whose prefix is that of another waiting row, but
        # of none admitted lately: it would be computed, and perhaps lost until that one's turn
        self._scattered = 0.0
        self._judged = -1  # arrival of the last row that ``_scattered`` counts

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: WaitingRow) -> None:
        """One more row waits; its ``id`` must be new."""
        row.arrival = self._added
        row.shared_blocks = self._shared(row.keys)
        self._added += 1
        self._rows[row.arrival] = row
        self._arrivals[row.id] = row.arrival
        self._queue.append(row.arrival)
        if row.keys:
            self._into_trie(row)
        self._index(row)
        self._decode += row.expected_tokens

    def _into_trie(self, row: WaitingRow) -> None:
        trie = self._trie
        place = bisect_left(trie, (row.keys, row.arrival))
        trie.insert(place, (row.keys, row.arrival))
        shared = row.shared_blocks
        if place:
            shared = max(shared, _common(row.keys, trie[place - 1][0]))
        if place + 1 < len(trie):
            shared = max(shared, _common(row.keys, trie[place + 1][0]))
        self.grouped += ((shared > _common(trie[0][0], trie[-1][0])) - self.grouped) / _SEEN

    def remove(self, row_id: int) -> WaitingRow:
        """Take a row out that is no longer wanted. Raises KeyError."""
        row = self._rows.pop(self._arrivals.pop(row_id))
        self._gone += 1
        if row.keys:
            del self._trie[bisect_left(self._trie, (row.keys, row.arrival))]
        self._unindex(row)
        self._decode -= row.expected_tokens
        if not self._rows:
            self._prefill = self._decode = 0.0  # no rounding errors to carry on
        return row

    def choose(
        self,
        fits: Callable[[WaitingRow], bool],
        *,
        running: int = 0,
        ending: bool = False,
        roomy: bool = False,
    ) -> WaitingRow | None:
        """Take out the row to admit next; None when there should be none now.

        ``fits``: whether a row may be admitted now; asked of one row, or of a few when the engine
        is nearly full. ``running``: how many rows the engine works on. ``ending``: no more rows
        will be added. ``roomy``: the cache has been large enough recently.
        """
        if not self._rows:
            return None
        oldest = self._oldest()
        if self._gone - oldest.arrival >= self._max_passed:
            return self._take(oldest, running) if fits(oldest) else None
        best = self._longest() if ending and len(self) <= running else None
        if best is None:
            best = oldest if roomy and not self._prefixes_matter(oldest) else self._best()
        if fits(best):
            self._fills = 0
            return self._take(best, running)
        patient = self._fills < self._max_fills or best.cache_share > _LARGE
        filler = self._filler(best, fits) if patient else None
        if filler is None:
            return None
        self._fills += 1
        return self._take(filler, running)

    def _oldest(self) -> WaitingRow:
        while self._queue[0] not in self._rows:
            self._queue.popleft()
        return self._rows[self._queue[0]]

    def _prefixes_matter(self, oldest: WaitingRow) -> bool:
        """Whether rows go by prefix although the cache is large enough."""
        if oldest.arrival > self._judged:  # count each row once, however long it is the oldest
            self._judged = oldest.arrival
            shared, place = self._shared(oldest.keys), bisect_left(self._trie, (oldest.keys,))
            near = self._trie[max(0, place - 1) : place + 2]
            alone = all(_common(oldest.keys, k) <= shared for k, a in near if a != oldest.arrival)
            self._scattered += (1 - alone - self._scattered) / _SEEN
        return self._scattered > _SCATTERED

    def _longest(self) -> WaitingRow | None:
        """The row expected to be longest, if it is much longer than the others."""
        longest = max(
            self._rows.values(), key=lambda r: (r.expected_tokens, r.shared_blocks, -r.arrival)
        )
        return longest if longest.expected_tokens * len(self) > _LONG * self._decode else None

    def _few(self) -> list[WaitingRow]:
        return [self._rows[arrival] for arrival in self._sharing_most()[:_FEW]]

    def _best(self) -> WaitingRow:
        error, ratio = self._error, self._ratio
        return min(
            self._few(),
            key=lambda row: abs(error + self._new_tokens(row) - ratio * row.expected_tokens),
        )

    @property
    def _ratio(self) -> float:
        """Tokens to prefill per token to decode, over all that wait."""
        return self._prefill / self._decode if self._decode else 0.0

    def _new_tokens(self, row: WaitingRow) -> int:
        return max(1, row.prompt_tokens - row.shared_blocks * self._block_size)

    def _filler(self, best: WaitingRow, fits: Callable[[WaitingRow], bool]) -> WaitingRow | None:
        """Roughly the largest of the oldest few that fits beside ``best``, by halving."""
        smaller = sorted((row.size, row.arrival) for row in self._few() if row.size < best.size)
        found = None
        low, high = 0, len(smaller)
        probe = 0  # the smallest first: mostly nothing fits
        while low < high:
            row = self._rows[smaller[probe][1]]
            if fits(row):
                found, low = row, probe + 1
            elif found is None:
                break
            else:
                high = probe
            probe = (low + high) // 2
        return found

    def _take(self, row: WaitingRow, running: int) -> WaitingRow:
        self._error *= _FORGET
        self._error += self._new_tokens(row) - self._ratio * row.expected_tokens
        self.remove(row.id)
        if row.keys:
            entry = (row.keys, row.arrival)
            insort(self._resident, entry)
            self._admitted.append(entry)
            while len(self._admitted) > running + 1:
                gone = self._admitted.popleft()
                del self._resident[bisect_left(self._resident, gone)]
            self._raise_neighbours(row.keys)
        return row

    def _raise_neighbours(self, keys: tuple[int, ...]) -> None:
        """From now on waiting rows share blocks with ``keys``.

        In trie order what they share falls with the distance, and a row that shares as much with
        another resident row has neighbours that do too: the walk ends there.
        """
        start = bisect_left(self._trie, (keys,))
        for places in (range(start, len(self._trie)), range(start - 1, -1, -1)):
            for place in places:
                row = self._rows[self._trie[place][1]]
                shared = _common(row.keys, keys)
                if shared <= row.shared_blocks:
                    break
                self._reindex(row, shared)

    def _sharing_most(self) -> list[int]:
        """Arrivals of the rows that share most with resident ones."""
        while True:
            depth = max(self._by_shared)
            row = self._rows[self._by_shared[depth][0]]
            shared = self._shared(row.keys) if depth else 0
            if shared >= depth:
                return self._by_shared[depth]
            self._reindex(row, shared)  # the row it shared with is gone by now

    def _shared(self, keys: tuple[int, ...]) -> int:
        """Whole blocks that ``keys`` shares with a resident row at most."""
        place = bisect_left(self._resident, (keys,))
        return max(
            (_common(keys, k) for k, _ in self._resident[max(0, place - 1) : place + 1]), default=0
        )

    def _index(self, row: WaitingRow) -> None:
        insort(self._by_shared.setdefault(row.shared_blocks, []), row.arrival)
        self._prefill += self._new_tokens(row)

    def _unindex(self, row: WaitingRow) -> None:
        arrivals = self._by_shared[row.shared_blocks]
        del arrivals[bisect_left(arrivals, row.arrival)]
        if not arrivals:
            del self._by_shared[row.shared_blocks]
        self._prefill -= self._new_tokens(row)

    def _reindex(self, row: WaitingRow, shared_blocks: int) -> None:
        self._unindex(row)
        row.shared_blocks = shared_blocks
        self._index(row)


def _common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """How many leading keys are equal, by halving: chained keys are equal up to one place."""
    return bisect_left(range(min(len(a), len(b))), True, key=lambda i: a[i] != b[i])
