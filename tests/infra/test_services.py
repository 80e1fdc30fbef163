"""The units for systemd."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer.main

from pipeline.cli.app import app

INFRA = Path(__file__).parents[2] / "infra"
UNITS = sorted(INFRA.glob("*.service"))


def read(unit: Path) -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None, strict=True)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read_string(unit.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_what_it_starts_is_a_command_of_rackmill_with_its_options(unit: Path) -> None:
    program, *words = shlex.split(read(unit)["Service"]["ExecStart"])
    assert program == "%h/rackmill/.venv/bin/rackmill"

    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]  # type: ignore[attr-defined]

    assert not hasattr(command, "commands")  # a command, no group of them
    command.make_context(unit.name, words)  # raises for arguments that it does not take


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_it_comes_back_and_is_given_time_to_stop(unit: Path) -> None:
    service = read(unit)["Service"]

    assert service["Restart"] == "always"
    assert int(service["TimeoutStopSec"]) >= 60
    assert service["KillMode"] == "mixed"  # rackmill stops what it has started


def test_there_is_one_for_the_head_one_to_join_and_one_for_the_schedules() -> None:
    assert [unit.name for unit in UNITS] == [
        "rackmill-head.service",
        "rackmill-join@.service",
        "rackmill-scheduler.service",
    ]


def test_a_head_may_have_a_name_with_hyphens() -> None:
    service = read(INFRA / "rackmill-join@.service")["Service"]

    assert "%i" in shlex.split(service["ExecStart"])  # %I makes slashes of them


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not on this machine"
)
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_has_nothing_to_say_against_it(unit: Path, tmp_path: Path) -> None:
    program = tmp_path / "rackmill/.venv/bin/rackmill"
    program.parent.mkdir(parents=True)
    program.symlink_to("/bin/true")
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)

    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", str(unit)],
        env=os.environ | {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(runtime)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")
