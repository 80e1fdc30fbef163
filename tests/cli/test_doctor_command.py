"""`rackmill doctor`: what is wrong with this machine, in plain words, with the fix."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.early


@dataclass(frozen=True)
class Examined:
    """One examination for scripts, which imports vLLM, and one for a screen."""

    code: int
    content: dict[str, Any]
    screen_code: int
    screen: str
    screen_err: str

    def finding(self, subject: str) -> dict[str, Any]:
        return next(f for f in self.content["findings"] if f["subject"].startswith(subject))


@pytest.fixture(scope="module")
def examined(launcher, tmp_path_factory: pytest.TempPathFactory) -> Examined:
    folder = tmp_path_factory.mktemp("doctor")
    # vLLM takes longest to import: the second believes what the first saw
    quick = (
        "import sys, pipeline.cli.models_and_machines.doctor.examine as doctor\n"
        "doctor._import_trouble = lambda: None\n"
        "sys.argv = ['rackmill', 'doctor']\n"
        "from pipeline.cli.main import main; main()"
    )
    script = launcher.run("doctor", "--json", cwd=folder)
    screen = launcher.python("-c", quick, cwd=folder)
    return Examined(script.code, script.json, screen.code, screen.out, screen.err)


def test_json_is_one_object_of_findings(examined: Examined) -> None:
    assert set(examined.content) >= {"ok", "findings"}


def test_all_is_well_when_every_finding_is(examined: Examined) -> None:
    assert examined.content["ok"] == all(f["ok"] for f in examined.content["findings"])


def test_the_exit_code_says_whether_all_is_well(examined: Examined) -> None:
    assert examined.code == examined.screen_code == (0 if examined.content["ok"] else 1)


@pytest.mark.parametrize("subject", ["Python", "RAM", "disk", "GPU", "vLLM", "Ray"])
def test_everything_a_run_depends_on_is_looked_at(subject: str, examined: Examined) -> None:
    assert examined.finding(subject)["says"]


def test_whatever_is_wrong_has_a_mend(examined: Examined) -> None:
    assert all(f["fix"] for f in examined.content["findings"] if not f["ok"])


def test_the_vllm_of_this_set_up_can_be_imported(examined: Examined) -> None:
    assert examined.finding("vLLM")["ok"], examined.finding("vLLM")


def test_on_a_screen_every_finding_is_on_stdout(examined: Examined) -> None:
    assert all(f["subject"] in examined.screen for f in examined.content["findings"])
    assert examined.screen_err == ""


def test_a_full_disk_is_wrong_and_the_mend_named(launcher, tmp_path: Path) -> None:
    """A machine with little room for models: exit code 1, and what to do."""
    code = (
        "import sys, pipeline.cli.models_and_machines.doctor.examine as doctor\n"
        "doctor._NEEDED_DISK, doctor._import_trouble = 1 << 60, lambda: None\n"
        "sys.argv = ['rackmill', 'doctor', '--json']\n"
        "from pipeline.cli.main import main; main()"
    )
    finished = launcher.python("-c", code, cwd=tmp_path, RACKMILL_HOME=str(tmp_path / "not/yet"))
    (disk,) = [f for f in finished.json["findings"] if f["subject"] == "disk"]
    assert (finished.code, finished.json["ok"], disk["ok"]) == (1, False, False)
    assert "not/yet" in disk["says"]
    assert "RACKMILL_HOME" in disk["fix"]


def test_a_library_that_vllms_kernels_lack_is_named(launcher, tmp_path: Path) -> None:
    """vLLM itself only warns, and every engine then dies."""
    (tmp_path / "libnuma.so.1").touch()  # found before the real one, and none
    finished = launcher.start(
        "doctor", "--json", cwd=tmp_path, LD_LIBRARY_PATH=str(tmp_path)
    ).wait()

    (vllm,) = [f for f in finished.json["findings"] if f["subject"] == "vLLM"]
    assert (finished.code, vllm["ok"]) == (1, False)
    assert "libnuma.so.1" in vllm["says"]
    assert "apt install libnuma1" in vllm["fix"]
