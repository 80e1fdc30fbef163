"""A run with the real engine, its core in a process of its own and in the worker's: stop strings, a
row's time, kill -9, Ctrl-C and the death of the engine."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.processes import Finished, Started

pytestmark = [pytest.mark.engine, pytest.mark.ray]

_JOB = """\
name: core
model: gemma-3-270m
input: {{path: rows/*.parquet}}
prompt: "{{text}}"
sampling: {{max_tokens: 40, stop: ","}}
output: {{path: out, keep: [id]}}
engine: {{core: {core}, max_num_seqs: 32, max_model_len: 4096}}
duplicates: {{answer_once: false}}
faults: {{row_timeout_seconds: 20, grace_seconds: 0}}
resources: {{workers: 1}}
"""
_ROWS = 256
_FILE_ROWS = 16
_ENDLESS = (100, 160)
_NO_END = json.dumps({"max_tokens": 3900, "ignore_eos": True, "stop": []})


@dataclass(frozen=True)
class Story:
    """A run whose engine is killed, and that is stopped by Ctrl-C when it works again; of the long
    story, one that goes on from there, of which everything is killed (test_killed has that of
    simulated engines); and one that goes on to the end with the core in the other place."""

    stopped: Finished
    left: list[str]  # processes that outlived the first or the last
    before: dict[str, tuple[bytes, int]]  # files that the last found
    files: dict[str, tuple[bytes, int]]  # in the end
    finished: Finished
    table: pa.Table


@pytest.fixture(scope="module", params=["own", pytest.param("shared", marks=pytest.mark.long)])
def story(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    launcher,
    read_output,
    files_of,
) -> Story:
    folder = tmp_path_factory.mktemp("core")
    output = folder / "out"
    (folder / "rows").mkdir()
    texts = [f"{n + 1}, {n + 2}, {n + 3}," for n in range(_ROWS)]
    own = [_NO_END if n in _ENDLESS else None for n in range(_ROWS)]
    columns = {"id": range(_ROWS), "text": texts, "sampling_params": own}
    table = pa.table({k: list(v) for k, v in columns.items()})
    for start in range(0, _ROWS, _FILE_ROWS):  # a unit each, so that there is time between them
        rows = table.slice(start, _FILE_ROWS)
        pq.write_table(rows, folder / f"rows/{start:03}.parquet")
    (folder / "job.yaml").write_text(_JOB.format(core=request.param))
    other = "shared" if request.param == "own" else "own"
    elsewhere = ("--set", f"engine.core={other}")

    def units() -> int:
        return len(list(output.glob("[!.]*.parquet")))

    def one_more(run: Started, than: int) -> None:
        run.wait_until(lambda: units() > than, "another unit was done")

    first = launcher.start("run", "job.yaml", "--json", cwd=folder)
    one_more(first, 0)
    core = first.cores()
    assert bool(core) == (request.param == "own")
    [victim] = core or first.workers()
    victim.kill()
    first.wait_until(lambda: first.output.count("engine  ready") == 2, "it was replaced")
    one_more(first, units())
    core = first.cores()
    os.killpg(first.process.pid, signal.SIGINT)
    stopped = first.wait()
    left = [*first.gone(20), *map(str, psutil.wait_procs(core, 20)[1])]

    if request.param == "shared":
        doomed = launcher.start("run", "job.yaml", *elsewhere, cwd=folder)
        one_more(doomed, units())
        doomed.kill_all()
    before = files_of(output)

    last = launcher.start("run", "job.yaml", "--json", *elsewhere, cwd=folder)
    finished = last.wait()
    left += last.gone(30)
    return Story(stopped, left, before, files_of(output), finished, read_output(output))


def test_a_stop_ends_a_run_whose_engine_is_at_work(story: Story) -> None:
    assert story.stopped.code == 130, story.stopped.err


def test_an_engine_that_is_killed_is_replaced(story: Story) -> None:
    assert story.stopped.err.count("worker-0 stopped and is replaced: ") == 1


def test_every_row_is_there_once(story: Story) -> None:
    assert story.table["id"].to_pylist() == list(range(_ROWS))


def test_what_was_done_before_is_kept(story: Story) -> None:
    assert 0 < story.finished.json["reused"] < _ROWS
    for name, content in story.before.items():
        assert story.files[name] == content


def test_while_texts_grow_our_count_of_the_blocks_is_the_engines_own(story: Story) -> None:
    assert story.finished.json["kv_count_error"] <= 0.02


def test_rows_end_at_their_stop_string(story: Story) -> None:
    rows = [row for row in story.table.to_pylist() if row["id"] not in _ENDLESS]
    assert all(row["error"] is None for row in rows)
    assert not any("," in row["completion"] for row in rows)
    assert all(1 <= row["completion_tokens"] <= 40 for row in rows)


def test_rows_that_take_too_long_are_error_rows(story: Story) -> None:
    assert story.finished.code == 3, story.finished.err
    errors = [row["error"] for row in story.table.to_pylist() if row["id"] in _ENDLESS]
    assert [error["type"] for error in errors] == ["Timeout"] * len(_ENDLESS)


def test_no_process_outlives_a_run(story: Story) -> None:
    assert story.left == []
