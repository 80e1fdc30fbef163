"""A few rows at once, and the engine that stays loaded for them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Listener
from pathlib import Path
from threading import Thread

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import Job, UsageError, job_from
from pipeline.driver.trial.client import WarmEngine, engine_key
from pipeline.driver.trial.trial import Trial, try_rows


def job(folder: Path, kind: str = "simulated", **changes: object) -> Job:
    if not (folder / "rows.parquet").exists():
        texts = [f"Row {i}: what a {'lovely' if i % 2 else 'terrible'} day" for i in range(8)]
        gold = ["positive" if i % 2 else "negative" for i in range(8)]
        pq.write_table(pa.table({"text": texts, "gold": gold}), folder / "rows.parquet")
    content = {
        "name": "trial",
        "model": "gemma-3-270m",
        "input": {"path": str(folder / "rows.parquet")},
        "prompt": "Text: {text}\nSentiment:",
        "label": {"choices": ["positive", "negative"], "gold": "gold"},
        "engine": {"kind": kind},
        "output": {"path": str(folder / "out")},
    }
    return job_from(content | changes)


def tried(made: Job, rows: int, engine: WarmEngine | None = None) -> Trial:
    return try_rows(made, rows, lambda line: None, engine)


def test_the_first_rows_are_answered_and_nothing_is_written(tmp_path: Path) -> None:
    trial = tried(job(tmp_path), 3)

    assert [row.place.row for row in trial.rows] == [0, 1, 2]
    assert all(row.result.label in ("positive", "negative") for row in trial.rows)
    assert trial.graded == 3
    assert not (tmp_path / "out").exists()


def test_a_row_without_a_prompt_is_an_error_row_beside_the_others(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", None, "c"], "gold": ["positive"] * 3})
    pq.write_table(table, tmp_path / "rows.parquet")

    trial = tried(job(tmp_path), 3)

    assert [row.result.error is not None for row in trial.rows] == [False, True, False]


def test_an_edited_prompt_keeps_the_engine_and_another_model_does_not(tmp_path: Path) -> None:
    made = job(tmp_path)

    assert engine_key(made) == engine_key(job(tmp_path, prompt="Say {text}", name="other"))
    assert engine_key(made) != engine_key(job(tmp_path, model="gemma-3-270m-bf16"))
    assert engine_key(made) != engine_key(job(tmp_path, engine={"kind": "vllm"}))


def test_a_folder_that_others_can_open_is_refused(tmp_path: Path) -> None:
    (tmp_path / "warm").mkdir(mode=0o755)
    os.chmod(tmp_path / "warm", 0o755)

    with pytest.raises(UsageError, match="not this user's alone"):
        tried(job(tmp_path, "vllm"), 1, WarmEngine(tmp_path / "warm"))


def test_nobody_is_listened_to_in_a_folder_that_others_can_open(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    os.chmod(tmp_path / "w", 0o777)

    for ask in (WarmEngine(tmp_path / "w").key, WarmEngine(tmp_path / "w").end):
        with pytest.raises(UsageError, match="not this user's alone"):
            ask()


class _OfAnotherVersion:
    """Says something, when it is connected to, that this version has no class for."""

    WORDS = b"cpipeline.driver.trial.gone\nLoadedEngine\n."

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self._listener = Listener(str(folder / "engine.sock"), family="AF_UNIX")
        self.thread = Thread(target=self._answer)
        self.thread.start()

    def _answer(self) -> None:
        # whoever asks may close it, and remove its address, at any moment
        with suppress(OSError), self._listener, self._listener.accept() as connection:
            connection.send_bytes(self.WORDS)
            connection.poll(20)


@pytest.mark.parametrize(("asked", "answer"), [("key", None), ("end", True)])
def test_an_engine_that_another_version_left_behind_is_none_that_can_be_asked(
    asked: str, answer: object, tmp_path: Path
) -> None:
    left = _OfAnotherVersion(tmp_path / "w")

    assert getattr(WarmEngine(tmp_path / "w"), asked)() == answer
    left.thread.join()


@pytest.fixture
def warm(tmp_path: Path) -> Iterator[WarmEngine]:
    engine = WarmEngine(tmp_path / "w")
    yield engine
    engine.end()


@pytest.mark.engine
def test_the_second_try_finds_the_engine_loaded_and_an_edit_is_answered(
    tmp_path: Path, warm: WarmEngine
) -> None:
    first = tried(job(tmp_path, "vllm"), 4, warm)
    again = tried(job(tmp_path, "vllm"), 4, warm)
    edited = tried(job(tmp_path, "vllm", prompt="{text}. I feel"), 2, warm)

    assert (first.warm, again.warm, edited.warm) == (False, True, True)
    assert [r.result.label for r in first.rows] == [r.result.label for r in again.rows]
    assert len(edited.rows) == 2
    assert warm.end()
    assert not warm.end()
    gone = time.monotonic() + 10
    while warm.key() is not None and time.monotonic() < gone:
        time.sleep(0.1)
    assert warm.key() is None
