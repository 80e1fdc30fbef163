"""The end of a command's process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

_PROGRAM = "import atexit; atexit.register(print, 'the end'); from pipeline.cli.main import program"


def _run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.argv = {['rackmill', *arguments]}; {_PROGRAM}; program()"
    return subprocess.run([sys.executable, "-c", code], text=True, **options)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("arguments", "code"), [(("--help",), 0), (("status", "nowhere"), 2), (("nonsense",), 2)]
)
def test_the_code_is_the_commands(arguments: tuple[str, ...], code: int) -> None:
    assert _run(*arguments, capture_output=True).returncode == code


def test_all_that_was_printed_arrives_and_what_is_due_at_the_end_is_done() -> None:
    done = _run("fit", "--json", stdout=subprocess.PIPE)
    content, _, rest = done.stdout.rpartition("the end")
    assert json.loads(content)
    assert (rest, done.returncode) == ("\n", 0)


def test_output_that_cannot_be_written_is_no_success() -> None:
    with open("/dev/full", "w") as full:
        assert _run("fit", "--json", stdout=full, stderr=subprocess.DEVNULL).returncode == 1


def test_a_run_does_not_load_what_few_jobs_need() -> None:
    slow = {"scipy.special", "scipy.stats", "pandas", "torch", "vllm"}
    code = f"import sys, pipeline.driver.run; print(*{slow} & sys.modules.keys())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == []


def test_ctrl_c_while_the_commands_are_imported_ends_it_without_a_traceback() -> None:
    started = subprocess.Popen(
        [
            sys.executable,
            "-X",
            "importtime",  # says on stderr how far the import is
            "-c",
            "from pipeline.cli.start import start; start()",
            "--help",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stderr
    told = []
    for line in started.stderr:
        told.append(line)
        if "typer" in line:
            started.send_signal(signal.SIGINT)
            break
    told += started.stderr.readlines()

    started.stderr.close()
    assert started.wait() == -signal.SIGINT
    assert "Traceback" not in "".join(told)
