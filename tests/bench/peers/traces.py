"""The three traces of the simulated comparison: prompts and answers as numbers of tokens.

Columns as `rackmill simulate` reads them: ``prompt_tokens``, ``output_tokens``, and, where
prompts begin alike, ``prefix_group`` and ``prefix_tokens``. One more, which it ignores:
``repeats``, whether an earlier row is the same. The same on every call.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from workloads import (
    Row,
    long_prompt_rows,
    sharegpt_rows,
    short_prompt_rows,
    tokenizer,
    tweets,
)

from pipeline import job_from
from pipeline.prompt.builder import PromptBuilder
from pipeline.prompt.join import Prompt

DUPLICATES = 0.2
SCHEMA = pa.schema(
    [
        ("prompt_tokens", pa.int32()),
        ("output_tokens", pa.int32()),
        ("prefix_group", pa.int32()),
        ("prefix_tokens", pa.int32()),
        ("repeats", pa.bool_()),
    ]
)


def write_traces(folder: Path, rows: int) -> dict[str, Path]:
    """All of them, ``rows`` requests each, as Parquet files in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    makers = {"sharegpt": sharegpt_trace, "tweets": tweets_trace, "mix": mix_trace}
    paths = {}
    for name, make in makers.items():
        table = make(folder, rows)
        assert table.num_rows == rows
        paths[name] = folder / f"{name}.parquet"
        pq.write_table(table, paths[name])
    return paths


def sharegpt_trace(folder: Path, rows: int) -> pa.Table:
    """First turns and the recorded lengths of their answers."""
    return _trace(sharegpt_rows(rows))


def tweets_trace(folder: Path, rows: int) -> pa.Table:
    """The label job's prompts, asked for a sentence or two instead of a label: 4 to 60 tokens,
    about 18 in the mean. A fifth of the rows repeat another, answer included."""
    job = tweets(folder / "tweets", rows, duplicates=DUPLICATES)
    texts = pq.read_table(folder / "tweets/input", columns=["text"]).column(0).to_pylist()
    prompts = PromptBuilder(job_from(job), tokenizer()).build([{"text": t} for t in texts])
    lengths = {text: _short_answer(text) for text in texts}
    ids = [prompt.ids for prompt in prompts if isinstance(prompt, Prompt)]
    return _trace([], ids, [lengths[text] for text in texts], dict.fromkeys(range(rows), 0))


def mix_trace(folder: Path, rows: int) -> pa.Table:
    """A shuffled mix: half ShareGPT, a quarter long documents with short answers (half of them
    about one of four documents), a quarter short questions with long answers."""
    quarter = rows // 4
    parts = [
        (row, None) for row in [*sharegpt_rows(rows - 2 * quarter), *short_prompt_rows(quarter)]
    ]
    parts += [(row, row[0][:400]) for row in long_prompt_rows(quarter)]
    random.Random(4).shuffle(parts)
    names = [name for _, name in parts if name is not None]
    repeated = {name for name in names if names.count(name) > 1}
    numbers = {name: number for number, name in enumerate(sorted(repeated))}
    groups = {i: numbers[name] for i, (_, name) in enumerate(parts) if name in numbers}
    return _trace([row for row, _ in parts], groups=groups)


def _short_answer(text: str) -> int:
    return min(60, 4 + int(random.Random(text).expovariate(1 / 14)))


def _trace(
    rows: Sequence[Row],
    ids: Sequence[Sequence[int]] | None = None,
    lengths: Sequence[int] | None = None,
    groups: Mapping[int, int] | None = None,
) -> pa.Table:
    """``groups``: place -> group; what its members have in common is counted here."""
    ids = ids or tokenizer().encode_batch([text for text, _ in rows])
    lengths = lengths or [length for _, length in rows]
    groups = groups or {}
    shared: dict[int, Sequence[int]] = {}
    for place, group in groups.items():
        shared[group] = _common(shared.get(group, ids[place]), ids[place])
    first: dict[tuple[int, ...], int] = {}
    for place, prompt in enumerate(ids):
        first.setdefault(tuple(prompt), place)
    columns = [
        [len(i) for i in ids],
        list(lengths),
        [groups.get(place) for place in range(len(ids))],
        [len(shared[groups[p]]) if p in groups else None for p in range(len(ids))],
        [place != first[tuple(prompt)] for place, prompt in enumerate(ids)],
    ]
    return pa.table(columns, schema=SCHEMA)


def _common(a: Sequence[int], b: Sequence[int]) -> Sequence[int]:
    same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    return a[: min(len(a), len(b)) if same is None else same]
