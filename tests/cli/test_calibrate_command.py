"""`rackmill calibrate`: what it refuses at once, and a whole calibration of a simulated engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.budget.step_time import StepWork
from pipeline.engine.standalone.calibrate import read_calibration
from tests.support.samples import write_model

_MODEL = "models/small"
_SIMULATED = ("--set", "engine.kind=simulated", "--set", "engine.simulated.step_seconds=0.002")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("gemma-3-27m",), "gemma-3-270m"),
        ((_MODEL, "--out", "."), "is a folder"),
        ((_MODEL, "--out", "nowhere/c.json"), "there is no folder nowhere"),
        ((_MODEL, "--set", "output.path=x"), "engine.… and sampling.… settings only"),
        ((_MODEL, "--set", "engine.block_size=33"), "engine.block_size"),
        ((_MODEL, "--set", "engine.blocksize=32"), "did you mean"),
        ((_MODEL, "--seconds", "0"), "--seconds"),
        (("models/none",), "models/none"),
        ((), "MODEL"),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    ask, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    write_model(tmp_path / _MODEL)

    finished = ask("calibrate", *arguments)

    assert finished.code == 2
    assert says in finished.err
    assert finished.out == ""


def test_a_calibration_is_written_and_shown_as_json(ask, tmp_path: Path) -> None:
    write_model(tmp_path / _MODEL)

    finished = ask("calibrate", _MODEL, *_SIMULATED, "--seconds", "1", "--out", "c.json", "--json")

    assert finished.code == 0
    shown, written = finished.json, json.loads((tmp_path / "c.json").read_text())
    assert shown == {"file": "c.json", **written}
    assert shown["engine"] == "simulated 1"
    assert shown["measured"][0]["what"] == "1 decoding behind 16 tokens"
    time = read_calibration(tmp_path / "c.json")
    assert 0.0015 < time.seconds(StepWork(1, 20, 20)) < 0.05


def test_people_see_each_step_and_how_near_the_fit_comes(ask, tmp_path: Path) -> None:
    write_model(tmp_path / _MODEL)

    finished = ask("calibrate", _MODEL, *_SIMULATED, "--seconds", "1")

    assert finished.code == 0
    assert "1 decoding behind 16 tokens" in finished.out
    assert "the fit is off by" in finished.out
    assert "→ calibration.json" in finished.out
    assert "loading the engine" in finished.err
