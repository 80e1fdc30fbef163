"""A folder `pipeline` where somebody runs a command is not taken for ours."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline
from tests.support.datasets import job_in, write_input

_SOURCES = sorted(Path(pipeline.__file__).parent.rglob("*.py"))
_STARTED = re.compile(r"sys\.executable,\s*(?:\"-P\",\s*)?\"-m\",\s*\"pipeline\.")


def test_every_process_of_ours_is_started_without_the_folder_that_one_is_in() -> None:
    started = [found[0] for path in _SOURCES for found in _STARTED.finditer(path.read_text())]

    assert len(started) >= 7
    assert [call for call in started if '"-P"' not in call] == []


def test_so_started_ours_is_found(tmp_path: Path) -> None:
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("raise RuntimeError('not ours')")

    done = subprocess.run(
        [sys.executable, "-P", "-m", "pipeline.cli.main", "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("rackmill "), done.stderr


@pytest.mark.ray
def test_workers_of_a_run_are_ours_wherever_it_is_started(tmp_path: Path) -> None:
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("raise RuntimeError('not ours')")
    write_input(tmp_path / "rows", 20)
    job = job_in(tmp_path).model_dump(mode="json", exclude_defaults=True)
    (tmp_path / "job.json").write_text(json.dumps(job))

    done = subprocess.run(
        [Path(sys.executable).with_name("rackmill"), "run", "job.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
