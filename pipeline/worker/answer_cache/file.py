"""A file of finished answers: a Parquet table of keys and results, sorted by key.

Without the columns of the rows that asked, and without scores. Errors are not kept: whoever asks
again wants another try.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.output.columns.results import RowResult
from pipeline.prompt.answer_key import KEY_BYTES

_ANSWER = pa.struct(
    [
        ("label", pa.string()),
        ("confidence", pa.float64()),
        ("probabilities", pa.list_(pa.float64())),
        ("completion_tokens", pa.int32()),
    ]
)
_SCHEMA = pa.schema(
    [
        ("key", pa.binary(KEY_BYTES)),
        ("completion", pa.string()),
        ("label", pa.string()),
        ("confidence", pa.float64()),
        ("probabilities", pa.list_(pa.float64())),  # of the choices
        ("answers", pa.list_(_ANSWER)),  # to each of several questions
        ("json", pa.bool_()),  # the completion is JSON whose members are the row's fields
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int32()),
        ("completion_tokens", pa.int32()),
    ]
)
_Heads = NDArray[np.uint64]


def worth_keeping(result: RowResult) -> bool:
    """Whether ``result`` was computed for its own row and will do for others."""
    return (
        result.key is not None
        and not result.duplicate
        and result.error is None
        and result.scores is None
    )


def encode(results: Iterable[RowResult]) -> tuple[bytes, _Heads]:
    """A file's content, and the heads of its keys (the first 8 bytes, as big-endian numbers)."""
    kept = sorted((r for r in results if worth_keeping(r)), key=lambda r: r.key or b"")
    table = pa.Table.from_pylist([_stored(result) for result in kept], schema=_SCHEMA)
    content = io.BytesIO()
    pq.write_table(table, content, compression="zstd", use_dictionary=["label", "finish_reason"])
    return content.getvalue(), _halves(table.column("key"))[:, 0]


def read_heads(file: BinaryIO) -> _Heads:
    """The heads of a file's keys. Raises pyarrow.ArrowException on a file of another kind."""
    return _halves(pq.read_table(file, columns=["key"]).column("key"))[:, 0]


class AnswerFile:
    """A file in memory."""

    def __init__(self, file: BinaryIO) -> None:
        """Raises pyarrow.ArrowException on a file of another kind."""
        self._table = pq.read_table(file, schema=_SCHEMA)
        self._keys = _halves(self._table.column("key"))

    @property
    def nbytes(self) -> int:
        return int(self._table.nbytes) + self._keys.nbytes

    def find(self, key: bytes) -> RowResult | None:
        """The answer to exactly this key."""
        place = int(self._keys[:, 0].searchsorted(np.uint64(head_of(key))))
        tail = int.from_bytes(key[8:])
        while place < len(self._keys) and self._keys[place, 0] == head_of(key):
            if self._keys[place, 1] == tail:
                return self._result(place)
            place += 1
        return None

    def _result(self, place: int) -> RowResult:
        [row] = self._table.slice(place, 1).to_pylist()
        fields = json.loads(row["completion"]) if row.pop("json") else {}
        probabilities = tuple(row.pop("probabilities") or ())
        answers = tuple(_result_of(one) for one in row.pop("answers") or ())
        return RowResult(probabilities=probabilities, answers=answers, fields=fields, **row)


def _stored(result: RowResult) -> dict[str, Any]:
    plain = {name: getattr(result, name) for name in _SCHEMA.names if name != "json"}
    return plain | {
        "probabilities": result.probabilities or None,
        "answers": [_answer(one) for one in result.answers] or None,
        "json": bool(result.fields),
    }


def _answer(result: RowResult) -> dict[str, Any]:
    return {name: getattr(result, name) for name in _ANSWER.names}


def _result_of(answer: dict[str, Any]) -> RowResult:
    probabilities = tuple(answer.pop("probabilities"))
    return RowResult(
        completion=answer["label"], finish_reason="stop", probabilities=probabilities, **answer
    )


def head_of(key: bytes) -> int:
    """The first 8 bytes of a key as a number."""
    return int.from_bytes(key[:8])


def _halves(keys: pa.ChunkedArray) -> NDArray[np.uint64]:
    """[n, 2]: both halves of 16-byte keys as big-endian numbers, so that they sort as bytes do."""
    content = b"".join(keys.to_pylist())
    return np.frombuffer(content, ">u8").astype(np.uint64).reshape(-1, 2)
