"""The columns of a scoring job, and how scores become Arrow arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.job.job import Score
from pipeline.output.tally import perplexity
from pipeline.rows.request import Scores

_ROW_FIELDS = (
    pa.field("logprob", pa.float64()),
    pa.field("tokens", pa.int32()),
    pa.field("perplexity", pa.float64()),
)
LIST_COLUMNS = ("token_ids", "token_logprobs", "top_token_ids", "top_logprobs")


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
