"""What a conversion kept and lost, by type of tensor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from math import sqrt
from pathlib import Path
from typing import Any


@dataclass
class RoundingLoss:
    """Sums over weights: of squares, of squared differences; the largest difference."""

    squares: float = 0.0
    errors: float = 0.0
    largest: float = 0.0

    def add(self, other: RoundingLoss) -> None:
        self.squares += other.squares
        self.errors += other.errors
        self.largest = max(self.largest, other.largest)

    @property
    def relative(self) -> float:
        """Root mean square of the differences, divided by that of the weights."""
        return sqrt(self.errors / self.squares) if self.squares else 0.0


@dataclass(frozen=True)
class ConversionReport:
    """``tensor_types``: one row for each storage type, kind of module and treatment, with
    ``storage_type, kind, tensors, what, relative_error, max_error``. Bytes of the GGUF file and
    of the checkpoint's weights.
    """

    folder: Path
    tensor_types: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "folder": str(self.folder)}


def losses_by_type(losses: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of ``ConversionReport.tensor_types``, from the loss of each tensor: its
    ``storage_type``, ``kind`` and ``what`` (how it was converted, in words), and as ``loss`` a
    RoundingLoss as data."""
    groups: dict[tuple[str, str, str], list[RoundingLoss]] = {}
    for one in losses:
        group = groups.setdefault((one["storage_type"], one["kind"], one["what"]), [])
        group.append(RoundingLoss(**one["loss"]))
    rows = []
    for (storage_type, kind, what), members in sorted(groups.items()):
        total = RoundingLoss()
        for loss in members:
            total.add(loss)
        rows.append(
            {
                "storage_type": storage_type,
                "kind": kind,
                "tensors": len(members),
                "what": what,
                "relative_error": total.relative,
                "max_error": total.largest,
            }
        )
    return rows
