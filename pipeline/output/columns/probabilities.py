"""The columns that say how sure a model was of every choice, and what is promised for its label.

    accepted        bool: whether the row is among those with at most the promised share of errors;
                    null as long as nothing was promised
    raw_confidence  the model's own probability of its most probable choice
    probabilities   a struct with a field for each choice, in the order of the choices: the model's
                    own probabilities, which sum to 1; null in error rows
    label_set       only with ``trust.label_sets``: choices that include the right one, except in
                    the share of rows that the job allows; null as long as right answers are missing

``label`` and ``confidence`` are the model's own, too, until true labels correct them
(``rackmill trust``).

An engine without log-probabilities writes its labels as text: then the last three, ``confidence``
and ``accepted`` are null in all rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.job.answer.questions import AskedQuestion

ACCEPTED, RAW_CONFIDENCE, PROBABILITIES = "accepted", "raw_confidence", "probabilities"
LABEL_SET_TYPE = pa.list_(pa.string())
WRITTEN = (
    "confidence is null: the engine tells no log-probabilities, so the model wrote its labels, and "
    "how sure it was is not known"
)
_LEAST = 1e-12  # a choice that was dropped early has less, maybe 0


def probability_type(choices: Sequence[str]) -> pa.DataType:
    return pa.struct([pa.field(choice, pa.float64()) for choice in choices])


def probability_array(rows: Sequence[Sequence[float]], choices: Sequence[str]) -> pa.StructArray:
    """The column ``probabilities``; null for a row without any."""
    known = np.array([len(row) > 0 for row in rows], np.bool_)
    values = np.zeros((len(rows), len(choices)))
    if known.any():
        values[known] = np.array([row for row in rows if len(row)])
    fields = list(probability_type(choices))
    columns = [pa.array(values[:, i], pa.float64(), mask=~known) for i in range(len(choices))]
    return pa.StructArray.from_arrays(columns, fields=fields, mask=pa.array(~known))


def probabilities_in(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """[rows, choices]: the values of a column of probabilities without nulls."""
    chunks = [
        np.column_stack([field.to_numpy(zero_copy_only=False) for field in chunk.flatten()])
        for chunk in column.chunks
    ]
    width = column.type.num_fields
    return np.concatenate(chunks) if chunks else np.zeros((0, width))


def log_probabilities(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """[rows, choices]: their natural logarithms."""
    logs: NDArray[np.float64] = np.log(np.maximum(probabilities_in(column), _LEAST))
    return logs


def log_probabilities_of(labels: Sequence[str], choices: Sequence[str]) -> NDArray[np.float64]:
    """[rows, choices]: for labels written as text: probability 1 for that label."""
    logs = np.full((len(labels), len(choices)), np.log(_LEAST))
    logs[np.arange(len(labels)), [choices.index(label) for label in labels]] = 0.0
    return logs


def why_not_sure(asked: Iterable[AskedQuestion], rows: Iterable[Mapping[str, Any]]) -> str | None:
    """Why output rows have labels without a confidence; None if no row does."""
    columns = [one.columns for one in asked]
    written = any(
        row.get(one.answer) is not None and row.get(one.probabilities, ()) is None
        for row in rows
        for one in columns
    )
    return WRITTEN if written else None
