"""Which rows unlike engines all answer. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.input.units import Unit
from pipeline.rows.row_range import RowRange

_ROWS = 48
_PLACES = 12
_LEAST_SHARE = 8  # no more than one row in so many is computed twice


def shared_rows(units: Sequence[Unit]) -> tuple[RowRange, ...]:
    """A few dozen of the rows of ``units``, from places spread evenly over them."""
    filled = [unit for unit in units if unit.rows]
    wanted = min(_ROWS, sum(unit.rows for unit in filled) // _LEAST_SHARE)
    places = min(_PLACES, len(filled), wanted)
    if not places:
        return ()
    each = -(-wanted // places)
    chosen = [filled[at * len(filled) // places] for at in range(places)]
    return tuple(
        RowRange(unit.shard, unit.start, min(unit.start + each, unit.stop)) for unit in chosen
    )
