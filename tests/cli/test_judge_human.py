"""`rackmill judge --human` as a command: what it prints, how it ends, what it refuses."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.labelled import answered
from tests.support.processes import Finished, Started

pytestmark = pytest.mark.usefixtures("large_units")


@pytest.fixture
def outputs(tmp_path: Path) -> None:
    """Of 60 rows; answers to every third are the same."""
    answered(tmp_path, "a", lambda row: f"short {row}")
    answered(tmp_path, "b", lambda row: f"{'short' if row % 3 == 0 else 'longer'} {row}")


@pytest.fixture
def judge(tmp_path: Path, outputs: None) -> Iterator[Callable[..., Started]]:
    started: list[Started] = []

    def start(*options: str) -> Started:
        arguments = [sys.executable, "-m", "pipeline.cli.main", "judge", "a", "b", "--human"]
        words = [*arguments, "--no-browser", "--reviewer", "anna", "--rows", "6", *options]
        started.append(Started(words, tmp_path, {}))
        return started[-1]

    yield start
    for one in started:
        one.kill_all()


def prefer_longer(command: Started, pairs: int) -> None:
    command.wait_until(lambda: "?token=" in command.output, "the address is printed")
    found = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", command.output)
    assert found is not None
    own = found.group().partition("/?")[0]
    with httpx.Client(base_url=own, headers={"Origin": own}, follow_redirects=True) as client:
        shown = client.get(found.group()).text
        for number in range(pairs):
            first = re.findall(r'<pre class="text" dir="auto">(\w+)', shown)[1]
            value = "0" if first == "longer" else "1"
            shown = client.post("/answer", data={"row": number, "value": value}).text


def test_ctrl_c_ends_it_with_the_result_of_what_was_judged(judge: Callable[..., Started]) -> None:
    command = judge()
    prefer_longer(command, 4)
    command.process.send_signal(signal.SIGINT)
    done = command.wait()
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    lines = done.out.splitlines()
    assert lines[0] == "saved 4 answers · 4 of 6 pairs answered"
    assert re.fullmatch(r"\d+ rows judged by anna", lines[1])
    assert re.fullmatch(r"  a +-\d+ Elo \(-\d+ to -\d+\)  a", lines[2])
    assert re.fullmatch(r"  b +\+\d+ Elo \(\+\d+ to \+\d+\)  b", lines[3])
    assert re.fullmatch(r"a is better in 0, b in 4, a tie in \d+", lines[4])
    assert lines[5] == "a wins 0.00 (0.00–0.49) of the 4 rows that are no tie"
    assert lines[6].startswith("shown first and called better: ")
    assert lines[7:] == ["go on:    rackmill judge a b --human --reviewer anna --rows 6"]


def test_json_is_one_object_that_has_what_a_models_judging_has(
    judge: Callable[..., Started],
) -> None:
    command = judge("--json")
    prefer_longer(command, 6)
    command.process.send_signal(signal.SIGINT)
    told = command.wait().json
    assert (told["answered"], told["pairs"], told["go_on"]) == (6, 6, None)
    assert told["outputs"] == ["a", "b"]
    [meeting] = told["meetings"]
    assert (meeting["wins"], meeting["losses"]) == (0, 6)
    assert told["strengths"][1]["elo"] > 0
    assert told["shown_first"]["verdicts"] == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--human", "--model", "m"], "--model is for a model that judges"),
        (["--human", "--set", "a=1"], "--set is for a model that judges"),
        (["--human", "--fresh"], "--fresh is for a model that judges"),
        (["--human", "--output", "x"], "--output is for a model that judges"),
        (["--reviewer", "anna"], "--reviewer is for the page on which people judge"),
        (["--port", "4000"], "--port is for the page on which people judge"),
        (["--no-browser"], "--no-browser is for the page on which people judge"),
        (["--human", "--reviewer", "../anna"], "--reviewer ../anna: not a name for a file"),
    ],
)
def test_options_that_do_not_go_together(
    ask: Callable[..., Finished], outputs: None, options: list[str], message: str
) -> None:
    ended = ask("judge", "a", "b", *options)
    assert ended.code == 2
    assert message in ended.err


def test_one_output_alone_is_refused(ask: Callable[..., Finished], outputs: None) -> None:
    ended = ask("judge", "a", "--human")
    assert ended.code == 2
    assert "two or more are needed" in ended.err
