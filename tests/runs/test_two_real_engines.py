"""A run with the real vLLM and the real model, by two engines at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import load_job
from pipeline.engine.gpu.usable import offer
from pipeline.engine.machine.host import native_bf16

pytestmark = [pytest.mark.engine, pytest.mark.alone, pytest.mark.ray]

DEMO = Path(__file__).parents[2] / "jobs/label-tweets.yaml"
_ROWS = 120  # a shard: so many that the engine that is loaded first does not do both alone
_CLEAR = {
    "positive": ["I love it, thank you so much!", "what a great crew, well done", "best trip ever"],
    "negative": ["worst flight ever, I hate it", "you lost my bag again", "rude and useless staff"],
}


def write_clear_tweets(folder: Path, shards: int, rows: int) -> None:
    folder.mkdir()
    graded = [(text, grade) for grade, texts in _CLEAR.items() for text in texts]
    for shard in range(shards):
        ids = list(range(shard * rows, (shard + 1) * rows))
        chosen = [graded[i % len(graded)] for i in ids]
        columns = {"id": ids, "text": [t for t, _ in chosen], "sentiment": [g for _, g in chosen]}
        pq.write_table(pa.table(columns), folder / f"shard-{shard}.parquet")


@dataclass(frozen=True)
class Labelled:
    facts: dict[str, Any]
    table: pa.Table
    left: list[str]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, launcher, read_output) -> Labelled:
    """The job of the demo over two shards, by two engines (on one GPU by one)."""
    folder = tmp_path_factory.mktemp("labels")
    write_clear_tweets(folder / "rows", shards=2, rows=_ROWS)
    workers = min(2, len(offer().gpus)) or 2
    arguments = [
        *("--set", "input.path=rows/*.parquet"),
        *("--set", "output.keep=[id, text, sentiment]"),
        *("--set", "label.gold=sentiment"),
        *("--set", "duplicates.answer_once=false"),
        *("--output", "out"),
        *("--workers", workers),
    ]
    started = launcher.start("run", DEMO, "--json", *arguments, cwd=folder)
    finished = started.wait()
    assert finished.code == 0, finished.err
    return Labelled(finished.json, read_output(folder / "out"), started.gone(30))


def test_two_engines_label_every_row_once(labelled: Labelled) -> None:
    assert labelled.table["id"].to_pylist() == list(range(2 * _ROWS))
    assert len(labelled.facts["engines"]) == (min(2, len(offer().gpus)) or 2)


def test_the_engines_are_vllm(labelled: Labelled) -> None:
    assert {engine["kind"] for engine in labelled.facts["engines"]} == {"vllm"}


def test_the_files_say_what_int4_was_computed_in(labelled: Labelled) -> None:
    unpacked = not offer().gpus and native_bf16()
    said = (labelled.table.schema.metadata or {}).get(b"rackmill.compute")
    assert said == (b"int4 codes, computed in bf16" if unpacked else None)
    assert {e["computed_in"] for e in labelled.facts["engines"]} == {"bf16" if unpacked else ""}


def test_labels_are_choices_with_a_probability(labelled: Labelled) -> None:
    label = load_job(DEMO).label
    assert label is not None
    assert set(labelled.table["label"].to_pylist()) <= set(label.choices or ())
    assert all(0.5 <= c <= 1 for c in labelled.table["confidence"].to_pylist())


def test_the_model_tells_praise_from_blame(labelled: Labelled) -> None:
    """Prompt, examples, weights and label probabilities come together: chance would be a half."""
    assert labelled.facts["accuracy"] >= 0.75


def test_equal_rows_get_equal_labels_from_either_engine(labelled: Labelled) -> None:
    labels: dict[str, set[str]] = {}
    for row in labelled.table.to_pylist():
        labels.setdefault(row["text"], set()).add(row["label"])
    assert all(len(seen) == 1 for seen in labels.values())


def test_our_count_of_the_blocks_is_the_engines_own(labelled: Labelled) -> None:
    assert labelled.facts["kv_count_error"] <= 0.02


def test_no_process_outlives_the_engines(labelled: Labelled) -> None:
    assert labelled.left == []
