"""Whatever is done to the files beside a dataset, commands answer with one message or a list of
faults, never with a traceback: others may write to an output folder."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import RackmillError
from pipeline.driver.plan.plan import check_input, make_plan
from pipeline.driver.retry import RetryOptions, find_job
from pipeline.output.clean import find_litter
from pipeline.output.dataset import Dataset
from pipeline.output.runs.status import read_status
from pipeline.output.verify.dataset import verify
from pipeline.storage.base import open_storage
from tests.support.datasets import finish, job_in, write_input

_WEIRD: list[Any] = [
    *(None, True, -1, 0, 1e300, "x", [], {}, "../../x", 10**30, [[]], {"a": 1}, float("nan")),
    *("\ud800", 2**63, "0" * 5000, [0, 0]),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    write_input(folder / "rows", 300)
    finish(job_in(folder), fails=lambda row: row == 7)
    return folder


def _mutated(value: Any, dice: random.Random) -> Any:
    if isinstance(value, dict) and value and dice.random() < 0.85:
        key = dice.choice(list(value))
        chance = dice.random()
        if chance < 0.15:
            return {k: v for k, v in value.items() if k != key}
        extra = {"extra": 1} if chance < 0.2 else {}
        return {**value, key: _mutated(value[key], dice), **extra}
    if isinstance(value, list) and value and dice.random() < 0.85:
        place = dice.randrange(len(value))
        return [_mutated(v, dice) if i == place else v for i, v in enumerate(value)]
    return dice.choice(_WEIRD)


def _damage(out: Path, dice: random.Random) -> str:
    files = sorted((out / "_rackmill").rglob("*.json"))
    path = dice.choice([*files, out / "_rackmill/manifest.json", out / "_rackmill/job.json"])
    if dice.random() < 0.2:
        content = bytearray(path.read_bytes())
        content[dice.randrange(len(content))] = dice.randrange(256)
        path.write_bytes(bytes(content))
    else:
        path.write_text(json.dumps(_mutated(json.loads(path.read_text()), dice)))
    return path.name


@pytest.mark.parametrize("seed", range(6))
def test_damaged_files_are_answered_with_a_message(seed: int, whole: Path, tmp_path: Path) -> None:
    dice = random.Random(seed)
    out = tmp_path / "out"
    made = job_in(whole, output={"path": str(out)})
    storage = open_storage(str(out))
    commands: list[Callable[[], object]] = [
        lambda: verify(storage),
        lambda: read_status(storage),
        lambda: find_litter(Dataset(storage)),
        lambda: make_plan(check_input(made), fetch=False),
        lambda: find_job(Dataset(storage), str(out), RetryOptions()),
    ]
    for _ in range(15):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(whole / "out", out)
        _damage(out, dice)
        for command in commands:
            with contextlib.suppress(RackmillError):
                command()
