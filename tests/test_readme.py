"""Every command and every piece of Python in the README works as printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipeline import job_from, load_job

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FIRST_SCREEN = README[:3000]
_WITH_ENGINE = ("run ", "quality ", "schedule apply ", "submit ")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    lines = [line.split("  #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that looks like a clone: what a command writes does not end up in this one."""
    subprocess.run(["./infra/setup", "--test"], cwd=ROOT, check=True)  # or the clone would do it
    folder = tmp_path_factory.mktemp("clone")
    for path in ROOT.iterdir():
        if path.name not in (".git", "data", "runs"):
            (folder / path.name).symlink_to(path)
    yield folder
    if (folder / "state/rack.json").exists():  # a command after it failed
        shell(".venv/bin/rackmill rack stop", folder)


def shell(command: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=os.environ
        | {
            "PYTHONWARNINGS": "default",
            "RACKMILL_STATE": str(folder / "state"),
            "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_both_commands_stand_in_the_first_screen() -> None:
    assert "./infra/demo" in FIRST_SCREEN
    assert "./infra/test" in FIRST_SCREEN


@pytest.mark.ray
def test_every_other_command_runs_in_the_order_printed(checkout: Path) -> None:
    """With the simulated engine, so that this takes seconds."""
    others = [c for c in commands() if not c.startswith("./infra/")]
    assert len(others) >= 5
    for command in others:
        engine = any(f"rackmill {name}" in command for name in _WITH_ENGINE)
        simulated = " --set engine.kind=simulated" if engine else ""
        shell(command + simulated, checkout)


@pytest.mark.engine
def test_the_demo_labels_512_tweets_and_mostly_agrees_with_people(checkout: Path) -> None:
    shell("./infra/demo", checkout)
    summary = json.loads((checkout / "runs/label-tweets/_rackmill/summary.json").read_text())
    assert (summary["rows"], summary["failed"]) == (512, 0)
    assert summary["accuracy"] >= 0.8
    assert set(summary["labels"]) == {"negative", "positive"}


def test_the_job_file_in_the_readme_is_the_one_in_jobs_but_for_an_example() -> None:
    printed = job_from(yaml.safe_load(blocks("yaml")[0]))
    shipped = load_job(ROOT / "jobs/gsm8k.yaml")
    assert printed.model_copy(update={"examples": shipped.examples}) == shipped


@pytest.mark.parametrize("code", blocks("python"))
def test_python_snippets_name_things_that_exist(code: str) -> None:
    """Only imports and attributes are checked: running them would load the engine."""
    for line in code.splitlines():
        if line.startswith(("import", "from")):
            subprocess.run([sys.executable, "-c", line], check=True, cwd=ROOT)


@pytest.mark.parametrize("extra", ["cpu", "demo", "s3"])
def test_the_documented_extras_exist(extra: str) -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extra in project["optional-dependencies"]


def test_every_documented_job_key_is_one() -> None:
    from pipeline import Job

    table = README.split("### The job file")[1].split("###")[0]
    keys = re.findall(r"^\| `([a-z_.]+)`", table, re.MULTILINE)
    assert {key.split(".")[0] for key in keys} <= set(Job.model_fields)
