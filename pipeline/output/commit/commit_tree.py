"""Commits rows, even if their unit was cut meanwhile.

Units that are cut form a tree: the original unit, its two parts, their parts. Every node has one
record, created exclusively, which says either where the node was cut or which attempt is its
result. A worker with results walks down from the original unit, cuts where its own rows begin or
end, and commits the nodes inside them. However many workers do this at the same time, with any
rows, the leaves are disjoint and each is committed once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa

from pipeline.input.units import Unit, halves
from pipeline.output.commit.records import CommitRecord, UnitIsCut
from pipeline.output.dataset import Dataset
from pipeline.output.tally import Tally

Rows = Callable[[int, int], tuple[pa.Table, Tally]]


def commit_rows(
    dataset: Dataset, unit: Unit, rows: Rows, provenance: Mapping[str, str]
) -> list[CommitRecord]:
    """Make ``rows(start, stop)`` (rows of the shard, within ``unit``) the result of ``unit``.

    Returns the records that count for its rows: of this attempt or earlier ones. Raises
    CommitFailed, CommitStateUnknown.
    """
    records: list[CommitRecord] = []
    nodes = [unit.whole or unit]
    while nodes:
        node = nodes.pop()
        if unit.start <= node.start and node.stop <= unit.stop:
            table, tally = rows(node.start, node.stop)
            try:
                records.append(dataset.commit(node, table, tally, provenance))
                continue
            except UnitIsCut as e:
                at = e.at
        else:
            outcome = dataset.cut(node, unit.start if node.start < unit.start else unit.stop)
            if isinstance(outcome, CommitRecord):
                records.append(outcome)
                continue
            at = outcome
        parts = reversed(halves(node, at))
        nodes += [p for p in parts if p.start < unit.stop and p.stop > unit.start]
    return records
