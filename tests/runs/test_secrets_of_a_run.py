"""What is secret is in no process's command line, in none of Ray's logs and not in the output."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.runs.slow_job import prepare, published
from tests.support.processes import Finished, called

pytestmark = pytest.mark.ray

_SECRETS = {
    "HF_TOKEN": "hf_7d1c2bsecret",
    "AWS_SECRET_ACCESS_KEY": "aws-51f0secret",
    "RAY_AUTH_TOKEN": "ab12cd34ef56" * 4 + "secret",
    "RACKMILL_WEBHOOK_SECRET": "hook-99e4secret",
}


@dataclass(frozen=True)
class Seen:
    """A run as others on its machine see it."""

    finished: Finished
    commands: list[str]  # command lines of all its processes
    files: dict[Path, bytes]  # what it and Ray wrote
    worker: dict[str, str]  # the environment of an engine's process


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, launcher, write_shards) -> Iterator[Seen]:
    folder = tmp_path_factory.mktemp("secrets")
    rays = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # a short name: sockets lie there
    output = prepare(folder, write_shards, step=0.02, workers=1, rows=(600, 200))
    try:
        started = launcher.start(
            "run", "job.yaml", "--json", cwd=folder, RAY_TMPDIR=str(rays), **_SECRETS
        )
        started.wait_until(lambda: published(output) > 0, "a unit was done")
        commands = []
        for process in started.processes():
            try:
                commands.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        [worker] = called(started.processes(), "WorkerActor")
        environment = worker.environ()
        finished = started.wait()
        places = [folder, rays]
        files = {
            path: path.read_bytes()
            for place in places
            for path in place.rglob("*")
            if path.is_file() and not path.is_symlink()
        }
        yield Seen(finished, commands, files, environment)
    finally:
        shutil.rmtree(rays, ignore_errors=True)


def test_the_run_was_looked_at_while_it_worked(seen: Seen) -> None:
    assert seen.finished.code == 0, seen.finished.err
    assert any("_CoordinatorActor" in command for command in seen.commands)
    assert any(path.name.startswith("gcs_server") for path in seen.files)
    assert any(path.name == "manifest.json" for path in seen.files)


@pytest.mark.parametrize("name", _SECRETS)
def test_no_secret_is_in_a_command_line_or_a_file(name: str, seen: Seen) -> None:
    value = _SECRETS[name]

    assert [command for command in seen.commands if value in command] == []
    assert [path for path, content in seen.files.items() if value.encode() in content] == []
    assert value not in seen.finished.out + seen.finished.err
