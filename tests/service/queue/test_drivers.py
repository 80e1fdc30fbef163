"""Drivers by way of Ray's job submission, whose client is a stand-in here."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.service.queue import drivers
from pipeline.service.queue.drivers import Drivers, DriverState, RayGone, log_of, log_tail


class Client:
    """Ray's, as far as it is asked."""

    def __init__(self) -> None:
        self.submitted: dict[str, str] = {}
        self.listed: list[Any] = []
        self.gone = False

    def submit_job(self, *, entrypoint: str, submission_id: str, metadata: Any) -> None:
        self._check()
        if submission_id in self.submitted:
            raise ValueError(f"{submission_id} was submitted already")
        self.submitted[submission_id] = entrypoint

    def list_jobs(self) -> list[Any]:
        self._check()
        return self.listed

    def _check(self) -> None:
        if self.gone:
            raise ConnectionError("connection refused")


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def made(client: Client, monkeypatch: pytest.MonkeyPatch) -> Drivers:
    monkeypatch.setattr(Drivers, "_connect", lambda self: client)
    return Drivers("head:6379", "http://127.0.0.1:8265")


def test_a_command_comes_to_rays_shell_as_it_was_given(made: Drivers, client: Client) -> None:
    command = ["python", "-m", "x", "--state", "/a folder/queue.db", "it's; rm -rf"]
    made.start("one-1", command, {})

    assert shlex.split(client.submitted["one-1"]) == command


def test_a_driver_that_was_started_unheard_is_not_started_twice(
    made: Drivers, client: Client
) -> None:
    made.start("one-1", ["first"], {})
    made.start("one-1", ["second"], {})

    assert client.submitted == {"one-1": "first"}


def test_states_are_those_of_drivers_that_were_submitted(made: Drivers, client: Client) -> None:
    def listed(name: str | None, code: int | None, message: str | None, *, over: bool) -> Any:
        status = SimpleNamespace(is_terminal=lambda: over)
        return SimpleNamespace(
            submission_id=name, status=status, driver_exit_code=code, message=message
        )

    client.listed = [
        listed("one-1", None, "it runs", over=False),
        listed("two-1", 3, None, over=True),
        listed(None, None, "somebody's own driver", over=False),
    ]

    assert made.states() == {
        "one-1": DriverState(False, None, "it runs"),
        "two-1": DriverState(True, 3, ""),
    }


def test_a_ray_that_is_gone_is_asked_anew_when_it_is_back(made: Drivers, client: Client) -> None:
    client.gone = True
    for call in (made.states, lambda: made.start("one-1", ["x"], {})):
        with pytest.raises(RayGone, match="does not answer: connection refused"):
            call()
    client.gone = False

    assert made.states() == {}


def test_of_what_ray_says_of_its_trouble_the_end_is_told(made: Drivers, client: Client) -> None:
    def refuse(**given: Any) -> None:
        raise RuntimeError("status code 500: Traceback:\n  File x\nNo available agent.\n")

    client.submit_job = refuse  # type: ignore[method-assign]

    with pytest.raises(RayGone) as found:
        made.start("one-1", ["x"], {})
    assert found.value.message == "Ray's job submission does not answer: No available agent."


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Ray keeps what drivers say."""
    from ray._common import utils

    monkeypatch.setattr(drivers, "import_ray", lambda: None)
    monkeypatch.setattr(utils, "get_default_ray_temp_dir", lambda: str(tmp_path))
    return tmp_path


def write_log(folder: Path, session: str, submission: str, said: str) -> Path:
    path = folder / f"session_{session}/logs/job-driver-{submission}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(said)
    return path


def test_the_log_of_a_driver_is_found_after_ray_was_started_again(logs: Path) -> None:
    path = write_log(logs, "2026-01-01", "one-1", "said")
    write_log(logs, "2026-01-02", "one-2", "more")

    assert log_of("one-1") == path
    assert log_of("one-11") is None


def test_why_a_driver_failed_is_what_it_said_last_as_an_error(logs: Path) -> None:
    write_log(logs, "x", "one-1", "working\nerror: it does not fit\n  take int4\n")

    assert log_tail("one-1") == "error: it does not fit · take int4"


@pytest.mark.parametrize("said", ["", None])
def test_a_driver_that_said_nothing_is_told_so(logs: Path, said: str | None) -> None:
    if said is not None:
        write_log(logs, "x", "one-1", said)

    assert log_tail("one-1") == "its driver said nothing"
