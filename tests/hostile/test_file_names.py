"""Files whose names are of any bytes: read, written down, resumed, verified, and shown."""

from __future__ import annotations

import gzip
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest

from pipeline import job_from
from pipeline.driver.plan.plan import check_input, make_plan
from pipeline.errors import UsageError
from pipeline.input.changes.content import with_contents
from pipeline.input.changes.increment import Covered, increment
from pipeline.input.formats.protocol import mark_of
from pipeline.input.shards import discover
from pipeline.job.job import Input, Job
from pipeline.output.dataset import Dataset
from pipeline.output.growing.growing import GrowingDataset
from pipeline.output.verify.dataset import verify
from pipeline.storage.base import open_storage
from tests.chaos.in_process import run_here
from tests.support.datasets import job_in
from tests.support.samples import write_model

NAMES = [
    *(b"caf\xe9.csv", b"two\nlines.csv", b'"quoted".csv', b"star*.csv", b"[ab].csv", b"a#b.csv"),
    *(b"100%.csv", b"a b.csv", b"a?.csv", b"{a,b}.csv", b"a::b.csv", b"a\\b.csv", b"\xff\xfe.csv"),
    *(b"\x1b[31m.csv", "ä.csv".encode(), "a\u0308.csv".encode(), b"-rf.csv", b"a=b.csv", b"'.csv"),
    *(b"~.csv", b"$HOME.csv", b"a%20b.csv", b"a&b.csv", b"\xf0\x9f\x98\x80.csv"),
]


def _job(folder: Path, path: str) -> Job:
    return job_from(
        {
            "name": "names",
            "model": str(folder / "model"),
            "input": {"path": path},
            "prompt": "{text}",
            "engine": {"kind": "simulated"},
            "output": {"path": str(folder / "out")},
        }
    )


def test_a_folder_of_them_goes_through_run_resume_and_verify(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    folder = tmp_path / "in"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(b"text,n\nrow,%d\n" % number)
    job = _job(tmp_path, str(folder))
    run_here(job)

    storage = open_storage(str(tmp_path / "out"))
    verdict = verify(storage)
    assert (verdict.faults, verdict.compared_rows, verdict.notes) == ([], len(NAMES), [])
    plan = make_plan(check_input(job), fetch=False)
    assert (plan.missing, plan.changes.lines()) == ((), [])
    entries = json.loads(storage.read("_rackmill/manifest.json") or b"")["shards"]
    assert {os.fsencode(os.path.basename(e["at"])) for e in entries} == set(NAMES)
    assert Dataset(storage).summary() is not None

    os.utime(os.path.join(os.fsencode(folder), NAMES[0]), (1, 1))
    assert make_plan(check_input(job), fetch=False).missing == ()


@pytest.mark.parametrize("name", NAMES)
def test_one_may_be_named_by_itself_and_the_job_that_is_kept_names_it_too(
    tmp_path: Path, name: bytes
) -> None:
    write_model(tmp_path / "model")
    path = os.path.join(os.fsencode(tmp_path), name)
    with open(path, "wb") as file:
        file.write(b"text\nrow\n")
    job = _job(tmp_path, os.fsdecode(path))
    run_here(job)

    kept = Dataset(open_storage(str(tmp_path / "out"))).job()
    assert kept is not None
    assert check_input(job_from(kept)).files.rows == 1


def _parquet(target: BinaryIO) -> None:
    pq.write_table(pa.table({"text": ["row", "another"]}), target, row_group_size=1)


FORMATS: dict[bytes, Callable[[BinaryIO], Any]] = {
    b"caf\xe9.parquet": _parquet,
    b"caf\xe9.arrow": lambda target: feather.write_feather(
        pa.table({"text": ["row", "another"]}), target
    ),
    b"caf\xe9.orc": lambda target: orc.write_table(pa.table({"text": ["row", "another"]}), target),
    b"caf\xe9.jsonl": lambda target: target.write(b'{"text": "row"}\n{"text": "another"}\n'),
    b"caf\xe9.json.gz": lambda target: target.write(
        gzip.compress(b'[{"text": "row"}, {"text": "another"}]')
    ),
    b"caf\xe9.csv.xz": lambda target: target.write(lzma.compress(b"text\nrow\nanother\n")),
}


@pytest.mark.parametrize("name", FORMATS)
def test_files_of_every_format_may_have_them_and_folders_too(
    tmp_path: Path, name: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RACKMILL_HOME", os.fsdecode(os.fsencode(tmp_path) + b"/h\xf6me"))
    write_model(tmp_path / "model")
    folder = os.path.join(os.fsencode(tmp_path), b"donn\xe9es")
    os.mkdir(folder)
    with open(os.path.join(folder, name), "wb") as file:
        FORMATS[name](file)
    run_here(_job(tmp_path, os.fsdecode(folder)))

    storage = open_storage(str(tmp_path / "out"))
    verdict = verify(storage)
    assert (verdict.faults, verdict.compared_rows, verdict.notes) == ([], 2, [])
    assert [row["text"] for row in Dataset(storage).first_rows(9)] == ["row", "another"]


@pytest.mark.parametrize("folder", [b"caf\xe9=1", b"lang=\xe9", b"lang=%E9", b"%E9=1"])
def test_a_column_in_a_folders_name_that_is_no_text_is_refused(
    tmp_path: Path, folder: bytes
) -> None:
    """Two such names would be made one."""
    whole = os.path.join(os.fsencode(tmp_path), b"in", folder)
    os.makedirs(whole)
    with open(whole + b"/a.csv", "wb") as file:
        file.write(b"text\nrow\n")

    with pytest.raises(UsageError, match="UTF-8") as caught:
        discover(Input(path=str(tmp_path / "in")))
    assert "partitioning: none" in "".join(caught.value.hints)
    assert discover(Input(path=str(tmp_path / "in"), partitioning="none")).rows == 1


def test_a_schedule_does_them_once(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    folder = tmp_path / "rows"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(b"text,id\nrow,%d\n" % number)
    dataset = GrowingDataset(str(tmp_path / "out"))
    files = discover(job.input)
    shards = with_contents(files.shards)
    made = increment(shards, [])
    covered = [Covered.of(shard, mark_of(shard)) for shard in shards]
    dataset.begin("2026-11-24T02-00-00Z", "names", made, covered, full=False)
    [begun] = dataset.unfinished()

    assert increment(files.shards, begun.inputs).shards == ()


@pytest.mark.parametrize("name", NAMES)
def test_messages_show_them(ask, tmp_path: Path, name: bytes) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for one, content in ((name, b"text,n\n1,2,3\n"), (b"whole.csv", b"text,n\nrow,1\n")):
        with open(os.path.join(os.fsencode(folder), one), "wb") as file:
            file.write(content)
    (tmp_path / "job.yaml").write_text(
        "name: a\nmodel: gemma-3-270m\ninput: {path: in}\nprompt: '{text}'\n"
        "output: {path: out}\nengine: {kind: simulated}\n"
    )
    done = ask("plan", "job.yaml")
    assert done.code == 2
    assert "Expected 2 columns" in done.err
    assert "Traceback" not in done.err
    assert "\x1b" not in done.err
    assert all(line.startswith(("error:", "  ")) for line in done.err.split("\n")[:-1])
