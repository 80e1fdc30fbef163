"""The order of work on rows: a mix of everything at any time, whatever the data's order.

Data are often sorted by source, date or length. Answer lengths learned from the first rows would
then be wrong for the next ones, and the longest might all come last. So units of work are handed
out spread over the input, and a worker processes several of them side by side, each from its first
row on: the finished part of a unit is its beginning, and neighbouring rows, which may share a
prefix, stay close. Pure: the order depends only on the number of units.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from math import gcd

STREAMS = 4  # units that a worker processes side by side: they are lost if it dies
SMALLEST = 16  # rows of a unit
_LARGEST = 4096
# at least, on a rack: enough to balance it, and few enough rows that are begun and not finished,
# some 3 % of the rows per worker
_RACK_UNITS = 128
# For one engine: a unit's rows squared over all rows, at most: few files for a small input (4 of
# 512 rows, 12 of 3,000). Little is begun there too, since a lease is two minutes' work at most.
# On a rack such units cost a tenth of the time where data are sorted (tests/bench/unit_sizes.py)
_SQUARE = 32
_GOLDEN = (5**0.5 - 1) / 2


def spread(number: int) -> list[int]:
    """Places 0..number, ordered so that every part of the sequence is spread evenly over the whole:
    steps of the golden section (Weyl's sequence, whose gaps are the most even ones), or of the
    nearest number that reaches every place."""
    wanted = max(1, round(number * _GOLDEN))
    near = (step for away in count() for step in (wanted + away, wanted - away))
    step = next(step for step in near if step > 0 and gcd(step, number) == 1)
    return [place * step % number for place in range(number)]


def side_by_side(rows: Sequence[int], streams: int = STREAMS) -> list[tuple[int, int]]:
    """(unit, row of it) over units of so many ``rows`` in the given order, ``streams`` of them at a
    time in turn; when one ends the next begins."""
    found: list[tuple[int, int]] = []
    coming = iter(range(len(rows)))
    open_units: list[list[int]] = []
    for unit in coming:
        open_units.append([unit, 0])
        if len(open_units) == streams:
            break
    while open_units:
        for one in list(open_units):
            unit, row = one
            if row < rows[unit]:
                found.append((unit, row))
                one[1] += 1
            else:
                place = open_units.index(one)
                following = next(coming, None)
                open_units[place : place + 1] = [] if following is None else [[following, 0]]
    return found


def unit_rows(total_rows: int, engines: int = 1) -> int:
    """Rows per unit for an input of ``total_rows`` on so many engines: a power of two from 16 to
    4,096."""
    most = total_rows / _RACK_UNITS if engines > 1 else (_SQUARE * total_rows) ** 0.5
    rows = SMALLEST
    while rows < _LARGEST and 2 * rows <= most:
        rows *= 2
    return rows


def mixed(number: int) -> list[int]:
    """Places 0..number in the order of a single worker with all rows."""
    unit = unit_rows(number)
    starts = range(0, number, unit)
    order = spread(len(starts))
    sizes = [min(unit, number - starts[n]) for n in order]
    return [starts[order[n]] + row for n, row in side_by_side(sizes)]
