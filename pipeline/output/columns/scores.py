"""The columns of a scoring job: how scores become Arrow arrays, and how two outputs are read side
by side, part by part."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.job.job import Score
from pipeline.output.tally import perplexity
from pipeline.rows.request import Scores
from pipeline.storage.base import Storage, open_storage

_ROW_FIELDS = (
    pa.field("logprob", pa.float64()),
    pa.field("tokens", pa.int32()),
    pa.field("perplexity", pa.float64()),
)
LIST_COLUMNS = ("token_ids", "token_logprobs", "top_token_ids", "top_logprobs")
_ROWS_AT_ONCE = 32  # that are read


def score_fields(score: Score) -> list[pa.Field]:
    """The columns of ``score``'s results.

    ``logprob``: the sum over the scored ``tokens``, natural logarithm; ``perplexity``:
    ``exp(-logprob / tokens)``. In the lists, entry i belongs to the i-th scored token, given all
    tokens before it: ``token_ids`` has the token itself, ``token_logprobs`` its log-probability,
    ``top_token_ids`` and ``top_logprobs`` the K most probable tokens in its place, the most
    probable first. ``<bos>`` is never scored, and has no entry.
    """
    fields = list(_ROW_FIELDS)
    if score.lists:
        fields += [
            pa.field("token_ids", pa.list_(pa.int32())),
            pa.field("token_logprobs", pa.list_(pa.float32())),
        ]
    if score.top_k is not None:
        fields += [
            pa.field("top_token_ids", pa.list_(pa.list_(pa.int32(), score.top_k))),
            pa.field("top_logprobs", pa.list_(pa.list_(pa.float32(), score.top_k))),
        ]
    return fields


def score_arrays(rows: Sequence[Scores | None], score: Score) -> dict[str, pa.Array]:
    """An array per column of ``score_fields``; a row without scores is null in all of them."""
    sums = [None if s is None else (logprob_of(s), len(s.logprobs)) for s in rows]
    arrays = {
        "logprob": pa.array([None if s is None else s[0] for s in sums], pa.float64()),
        "tokens": pa.array([None if s is None else s[1] for s in sums], pa.int32()),
        "perplexity": pa.array([None if s is None else perplexity(*s) for s in sums], pa.float64()),
    }
    if score.lists:
        arrays["token_ids"] = _lists(rows, lambda s: s.token_ids, np.int32)
        arrays["token_logprobs"] = _lists(rows, lambda s: s.logprobs, np.float32)
    if score.top_k is not None:
        k = score.top_k
        arrays["top_token_ids"] = _lists(rows, lambda s: s.top_ids, np.int32, k)
        arrays["top_logprobs"] = _lists(rows, lambda s: s.top_logprobs, np.float32, k)
    return arrays


def logprob_of(scores: Scores) -> float:
    """The sum of the tokens' log-probabilities, in double precision."""
    return float(scores.logprobs.sum(dtype=np.float64))


def _lists(
    rows: Sequence[Scores | None], part: Callable[[Scores], Any], kind: Any, width: int = 0
) -> pa.Array:
    """A list array over ``part`` of each row; with ``width``, lists of lists of that length.

    Built from whole buffers: as Python objects, a few hundred rows with a thousand
    alternatives a token would take gigabytes.
    """
    parts = [np.zeros(0, kind) if s is None else part(s).astype(kind, copy=False) for s in rows]
    flat = np.concatenate([p.reshape(-1) for p in parts]) if parts else np.zeros(0, kind)
    values = pa.array(flat)
    if width:
        values = pa.FixedSizeListArray.from_arrays(values, width)
    lengths = [0 if s is None else len(s.logprobs) for s in rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    missing = pa.array([s is None for s in rows], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=missing)


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
    return sorted(path for path in storage.names("") if path.endswith(".parquet"))


def _scores(batch: pa.RecordBatch) -> Scores:
    token_ids, logprobs, top_ids, top_logprobs = (batch[name].flatten() for name in LIST_COLUMNS)
    width = top_ids.type.list_size
    return Scores(
        token_ids.to_numpy(),
        logprobs.to_numpy(),
        top_ids.flatten().to_numpy().reshape(-1, width),
        top_logprobs.flatten().to_numpy().reshape(-1, width),
    )
