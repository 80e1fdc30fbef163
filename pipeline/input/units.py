"""Cutting shards into units of work: the same input and size of units give the same units."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import JobFailed
from pipeline.input.formats.base import STRIDE
from pipeline.input.shard import Shard
from pipeline.rows.row_range import RowRange
from pipeline.rows.work_order import spread

_ANYWHERE = 1 << 16  # rows that may be decoded to reach a unit in the middle


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows ``start``..``stop`` of a shard, and the name of the output file for them.

    ``whole``: the unit that the input was cut into, if this is a part of it that was leased
    separately.
    """

    id: str
    shard: int
    start: int
    stop: int
    whole: Unit | None = None

    @property
    def rows(self) -> int:
        return self.stop - self.start

    @property
    def row_range(self) -> RowRange:
        return RowRange(self.shard, self.start, self.stop)

    @property
    def file_name(self) -> str:
        """Its order is that of the input."""
        return f"{self.shard:05d}-{self.start:012d}.parquet"


def cut(
    shards: Sequence[Shard], rows_per_unit: int | Sequence[int], limit: int | None = None
) -> list[Unit]:
    """Units in input order over the first ``limit`` rows (None: all). ``rows_per_unit``: for all
    shards, or for each.

    A shard starts a new unit. A unit ends at a row group's end if there is one within the last
    quarter of it, so row groups are rarely decoded for two units. An input without rows is one
    empty unit: its dataset has a schema and no rows.
    """
    units: list[Unit] = []
    left = sum(s.used_rows for s in shards) if limit is None else limit
    for shard, size in zip(shards, _sizes(shards, rows_per_unit), strict=True):
        boundaries = [b for b in shard.boundaries if b]
        identity = _identity(shard)
        start, end = shard.first, min(shard.rows, shard.first + left)
        last = shard.rows - 1 if shard.last_apart else end
        while start < end:
            stop = min(start + size, end if start >= last else min(last, end))
            near = bisect_right(boundaries, stop) - 1
            if stop < end and near >= 0 and boundaries[near] >= stop - size // 4:
                stop = boundaries[near]
            units.append(Unit(_id(identity, start, stop), shard.index, start, stop))
            start = stop
        left -= end - shard.first
    return units or [Unit(_id(_identity(shards[0]), 0, 0), shards[0].index, 0, 0)]


def recut(
    shards: Sequence[Shard],
    starts: Sequence[Sequence[int] | None],
    rows_per_unit: Sequence[int],
    limit: int | None = None,
) -> list[Unit]:
    """The units that `cut` returned, rebuilt from a manifest: for each shard the first rows of its
    units (None: units of ``rows_per_unit`` rows), over the first ``limit`` rows.
    """
    units: list[Unit] = []
    left = sum(s.used_rows for s in shards) if limit is None else limit
    for shard, given, size in zip(shards, starts, rows_per_unit, strict=True):
        end = min(shard.first + shard.used_rows, shard.first + left)
        firsts = [s for s in (given or range(shard.first, end, size)) if s < end]
        identity = _identity(shard)
        for start, stop in zip(firsts, [*firsts[1:], end], strict=False):
            units.append(Unit(_id(identity, start, stop), shard.index, start, stop))
        left -= end - shard.first
    return units or [Unit(_id(_identity(shards[0]), 0, 0), shards[0].index, 0, 0)]


def starts_of(
    shards: Sequence[Shard], units: Sequence[Unit], rows_per_unit: Sequence[int]
) -> list[list[int] | None]:
    """What `recut` needs to know about each shard's units; None if they all have one size."""
    starts: list[list[int]] = [[] for _ in shards]
    for unit in units:
        if unit.rows:
            starts[unit.shard].append(unit.start)
    return [
        None if first == [shard.first + i * size for i in range(len(first))] else first
        for shard, first, size in zip(shards, starts, rows_per_unit, strict=True)
    ]


def _sizes(shards: Sequence[Shard], given: int | Sequence[int]) -> Sequence[int]:
    return [given] * len(shards) if isinstance(given, int) else given


def predicted_costs(units: Sequence[Unit], shards: Sequence[Shard]) -> list[float] | None:
    """The expected cost of each unit relative to others, without reading it: half of a row's cost
    is taken as equal for all, half as proportional to its bytes. None if all rows are
    alike."""
    if len(shards) == 1 and not shards[0].offsets:
        return None
    rows = sum(unit.rows for unit in units)
    sizes = [_bytes(unit, shards[unit.shard]) for unit in units]
    mean = sum(sizes) / rows if rows else 0.0
    if not mean:
        return None
    return [(unit.rows + size / mean) / 2 for unit, size in zip(units, sizes, strict=True)]


def working_order(units: Sequence[Unit], shards: Sequence[Shard]) -> Sequence[int]:
    """Places of ``units`` in the order in which they are handed out: spread over the input, except
    that units which can only be read in sequence (in a large row group, in a large CSV file) stay
    in sequence."""
    firsts = array("q")  # the first place of each block
    before: tuple[int, int] | None = None
    for place, unit in enumerate(units):
        block = _large_block(unit, shards[unit.shard])
        if block is None or block != before:
            firsts.append(place)
        before = block
    order = array("q")
    for block_place in spread(len(firsts)):
        end = firsts[block_place + 1] if block_place + 1 < len(firsts) else len(units)
        order.extend(range(firsts[block_place], end))
    return order


def _large_block(unit: Unit, shard: Shard) -> tuple[int, int] | None:
    """Shard and first row of the rows that have to be read to reach the unit; None if they are
    few."""
    if shard.offsets:
        return None
    group = bisect_right(shard.boundaries, unit.start)
    first = shard.boundaries[group - 1] if group else 0
    end = shard.boundaries[group] if group < len(shard.boundaries) else shard.rows
    return (unit.shard, first) if end - first > _ANYWHERE else None


def _bytes(unit: Unit, shard: Shard) -> float:
    """The approximate bytes of the unit's rows in its shard."""
    if shard.offsets:
        ends = (*shard.offsets, shard.size)
        first, last = unit.start // STRIDE, -(-unit.stop // STRIDE)
        size = ends[min(last, len(ends) - 1)] - ends[min(first, len(ends) - 1)]
        rows = min(shard.rows, last * STRIDE) - first * STRIDE
    else:
        size, rows = shard.size, shard.rows
    return size * unit.rows / rows if rows > 0 else 0.0


def part(unit: Unit, start: int, stop: int) -> Unit:
    """Rows ``start``..``stop`` of the shard, as a part of ``unit`` with a fixed name."""
    whole = unit.whole or unit
    if (start, stop) == (whole.start, whole.stop):
        return whole
    return Unit(_id(whole.id, start, stop), unit.shard, start, stop, whole)


def halves(unit: Unit, at: int) -> tuple[Unit, Unit]:
    """The two units that result from cutting ``unit`` before row ``at`` of the shard."""
    return part(unit, unit.start, at), part(unit, at, unit.stop)


def leaves(unit: Unit, cuts: Mapping[str, int]) -> Iterator[Unit]:
    """The units that ``unit`` was cut into, in input order. ``cuts``: unit id -> row.

    Raises JobFailed for a cut outside its unit.
    """
    open_ends = [unit]
    while open_ends:
        node = open_ends.pop()
        at = cuts.get(node.id)
        if at is None:
            yield node
        elif node.start < at < node.stop:
            open_ends += reversed(halves(node, at))
        else:
            raise JobFailed(
                f"the record of unit {node.id} is damaged: it cuts rows {node.start} to "
                f"{node.stop} before row {at}",
                f"remove _rackmill/commits/{node.id}.json in the output folder to redo its rows",
            )


def branches(unit: Unit, cuts: Mapping[str, int]) -> Iterator[str]:
    """Ids of ``unit`` and of its parts that were cut again."""
    nodes = [unit] if cuts else []
    while nodes:
        node = nodes.pop()
        at = cuts.get(node.id)
        if at is not None and node.start < at < node.stop:
            yield node.id
            nodes += halves(node, at)


def _identity(shard: Shard) -> str:
    return str(sorted(shard.identity.items()))


def _id(of: str, start: int, stop: int) -> str:
    return hashlib.sha256(f"{of}:{start}:{stop}".encode()).hexdigest()[:24]
