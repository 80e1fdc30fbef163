"""Two outputs of jobs that score, read side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import RowError, RowErrorType
from pipeline.output.columns.results import RowResult, output_columns, to_table
from pipeline.output.columns.scores import first_error, paired_scores
from pipeline.rows.request import Scores
from tests.support.samples import job

_INPUT = pa.schema([("text", pa.string())])


def scores(count: int, value: float) -> Scores:
    """So many tokens, told apart by ``value``."""
    ids = np.arange(count, dtype=np.int32)
    filled = np.full((count, 2), value, np.float32)
    return Scores(ids, filled[:, 0], np.stack([ids, ids + 1], 1), filled)


def write(folder: Path, *files: list[Scores | None]) -> str:
    """An output folder with a file for each list of rows; None: the row failed."""
    folder.mkdir()
    columns = output_columns(job(score={"top_k": 2}), _INPUT)
    failed = RowResult(error=RowError(RowErrorType.PROMPT_TOO_LONG, "text has 9 tokens, context 8"))
    for number, rows in enumerate(files):
        results = [failed if s is None else RowResult(scores=s) for s in rows]
        table = to_table(pa.table({"text": ["x"] * len(rows)}, _INPUT), results, columns)
        pq.write_table(table, folder / f"00000-{number:012d}.parquet")
    return str(folder)


def test_rows_that_lack_scores_in_either_are_left_out(tmp_path: Path) -> None:
    one = write(tmp_path / "one", [scores(3, -1), None, scores(2, -2)], [scores(4, -3)])
    other = write(tmp_path / "other", [None, scores(1, -5), scores(2, -6)], [scores(4, -7)])

    pairs = list(paired_scores(one, other))

    assert [lengths.tolist() for _, _, lengths in pairs] == [[2], [4]]
    assert [(a.logprobs[0], b.logprobs[0]) for a, b, _ in pairs] == [(-2, -6), (-3, -7)]
    assert all(a.top_ids.shape == (len(a.logprobs), 2) for a, _, _ in pairs)


def test_more_rows_than_are_read_at_once_stay_in_order(tmp_path: Path) -> None:
    rows: list[Scores | None] = [scores(1 + i % 3, -i) for i in range(100)]
    folder = write(tmp_path / "one", rows)

    pairs = list(paired_scores(folder, folder))

    assert len(pairs) > 1
    assert np.concatenate([lengths for *_, lengths in pairs]).tolist() == [
        1 + i % 3 for i in range(100)
    ]


def test_why_nothing_was_scored_is_in_the_first_error_row(tmp_path: Path) -> None:
    folder = write(tmp_path / "one", [scores(1, -1)], [None])

    assert first_error(folder) == "text has 9 tokens, context 8"
    assert first_error(write(tmp_path / "other", [scores(1, -1)])) is None
