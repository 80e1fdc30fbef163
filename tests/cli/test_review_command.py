"""`rackmill review` as a command: what it prints, and how it ends."""

from __future__ import annotations

import json
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.labelled import labelled
from tests.support.processes import Finished, Started

pytestmark = pytest.mark.usefixtures("large_units")


@pytest.fixture
def review(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Starts the command on an output of 60 rows, without a browser."""
    labelled(tmp_path, 60)
    started: list[Started] = []

    def start(*options: str) -> Started:
        arguments = [sys.executable, "-m", "pipeline.cli.main", "review", "out", "--no-browser"]
        started.append(Started([*arguments, "--rows", "20", *options], tmp_path, {}))
        return started[-1]

    yield start
    for one in started:
        one.kill_all()


def address_of(command: Started) -> str:
    command.wait_until(lambda: "?token=" in command.output, "the address is printed")
    found = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", command.output)
    assert found is not None
    return found.group()


def answer(address: str, *values: str) -> None:
    own = address.partition("/?")[0]
    with httpx.Client(base_url=own, headers={"Origin": own}, follow_redirects=True) as client:
        assert client.get(address).status_code == 200
        for row, value in enumerate(values):
            assert client.post("/answer", data={"row": row, "value": value}).status_code == 200


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_with_what_was_saved_and_the_next_command(
    review: Callable[..., Started], how: signal.Signals
) -> None:
    command = review("--reviewer", "anna")
    answer(address_of(command), "1", "0", "unsure")
    command.process.send_signal(how)
    ended = command.wait()
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == [
        "saved 3 answers · 3 of 20 rows answered",
        "go on:    rackmill review out --reviewer anna",
        "use them: rackmill trust out",
    ]
    assert "Traceback" not in ended.err
    assert len(ended.err.splitlines()) == 2  # what is done, and the address


def test_json_is_one_object_on_stdout(review: Callable[..., Started]) -> None:
    command = review("--reviewer", "anna", "--json")
    answer(address_of(command), *["1", "0"] * 10)
    command.process.send_signal(signal.SIGINT)
    told = command.wait().json
    assert told["reviewer"] == "anna"
    assert (told["saved_now"], told["answered"], told["unsure"], told["rows"]) == (20, 20, 0, 20)
    assert told["accuracy"]["rows"] >= 16
    assert (told["kappa"], told["alpha"], told["go_on"]) == (None, None, None)


def test_a_port_may_be_named_and_one_that_is_taken_is_refused(
    review: Callable[..., Started],
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = review("--port", port).wait()
        assert ended.code == 2
        assert f"--port {port}: Address already in use" in ended.err
    assert f":{port}/?" in address_of(review("--port", port))


class TestRefusals:
    @pytest.fixture(autouse=True)
    def _output(self, tmp_path: Path) -> None:
        labelled(tmp_path, 60)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--question", "lable"], "--question lable: out answers label"),
            (["--reviewer", "../anna"], "--reviewer ../anna: not a name for a file"),
            (["--rows", "0"], "--rows"),
            (["--port", "99999"], "--port"),
        ],
    )
    def test_options_that_mean_nothing(
        self, ask: Callable[..., Finished], options: list[str], message: str
    ) -> None:
        ended = ask("review", "out", *options)
        assert ended.code == 2
        assert message in ended.err

    def test_a_folder_that_is_none(self, ask: Callable[..., Finished]) -> None:
        ended = ask("review", "nowhere", "--json")
        assert ended.code == 2
        assert "no output of rackmill" in json.loads(ended.out)["error"]
