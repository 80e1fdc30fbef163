"""Reads the output of scoring jobs: two outputs side by side, part by part."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.output.columns.scores import LIST_COLUMNS
from pipeline.rows.request import Scores
from pipeline.storage.base import Storage, open_storage

_ROWS_AT_ONCE = 32


def paired_scores(one: str, other: str) -> Iterator[tuple[Scores, Scores, NDArray[np.int64]]]:
    """The scores of the same rows from two outputs over one input, with ``top_k``, a few rows at a
    time; rows without scores in either output are left out. Also each row's number of tokens."""
    stores = open_storage(one), open_storage(other)
    for name in _files(stores[0]):
        parts = [
            pq.ParquetFile(io.BytesIO(storage.read(name) or b"")).iter_batches(
                batch_size=_ROWS_AT_ONCE, columns=list(LIST_COLUMNS)
            )
            for storage in stores
        ]
        for pair in zip(*parts, strict=True):
            both = pc.and_(*(batch["token_ids"].is_valid() for batch in pair))
            first, second = (batch.filter(both) for batch in pair)
            if first.num_rows:
                lengths = pc.list_value_length(first["token_ids"]).to_numpy()
                yield _scores(first), _scores(second), lengths


def first_error(folder: str) -> str | None:
    """The message of an output's first error row; None if there is none."""
    storage = open_storage(folder)
    for name in _files(storage):
        table = pq.read_table(io.BytesIO(storage.read(name) or b""), columns=["error"])
        for error in table["error"].to_pylist():
            if error is not None:
                return str(error["message"])
    return None


def _files(storage: Storage) -> list[str]:
    return sorted(path for path, _ in storage.files("") if path.endswith(".parquet"))


def _scores(batch: pa.RecordBatch) -> Scores:
    token_ids, logprobs, top_ids, top_logprobs = (batch[name].flatten() for name in LIST_COLUMNS)
    width = top_ids.type.list_size
    return Scores(
        token_ids.to_numpy(),
        logprobs.to_numpy(),
        top_ids.flatten().to_numpy().reshape(-1, width),
        top_logprobs.flatten().to_numpy().reshape(-1, width),
    )
