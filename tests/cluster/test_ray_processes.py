"""What a Ray of our own starts ends with it, also what Ray leaves to end by itself."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from pipeline.cluster.ray_processes import RayProcesses

# a daemon with an agent that would outlive it by a minute
_DAEMON = """
import subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
agent = subprocess.Popen(sleep, stdout=subprocess.DEVNULL)  # else it keeps ours open
print(agent.pid, flush=True)
time.sleep(60)
"""


def daemon() -> tuple[subprocess.Popen[str], psutil.Process]:
    started = subprocess.Popen([sys.executable, "-c", _DAEMON], stdout=subprocess.PIPE, text=True)
    assert started.stdout
    return started, psutil.Process(int(started.stdout.readline()))


def lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_agents_end_with_the_daemon_that_started_them() -> None:
    processes = RayProcesses()
    with processes:
        started, agent = daemon()
    started.kill()
    started.communicate()
    assert lives(agent)

    processes.end(grace_seconds=0)

    assert not lives(agent)


def test_an_agent_that_is_just_being_started_ends_though_its_daemon_is_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    processes = RayProcesses()
    with processes:
        started, agent = daemon()
    started.kill()
    started.communicate()
    looks = iter([{}, {}, {}])
    environ = psutil.Process.environ

    def just_started(process: psutil.Process) -> dict[str, str]:
        return next(looks, environ(process)) if process == agent else environ(process)

    monkeypatch.setattr(psutil.Process, "environ", just_started)

    processes.end(grace_seconds=0)

    assert not lives(agent)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_start_that_is_broken_off_leaves_nothing(error: type[BaseException]) -> None:
    left = []

    def start() -> None:
        with RayProcesses():
            left.append(daemon())
            raise error

    with pytest.raises(error):
        start()

    [(started, agent)] = left
    assert not lives(agent)
    started.communicate()


def test_an_agent_whose_daemon_died_in_a_start_that_is_broken_off_ends_too() -> None:
    left = []

    def start() -> None:
        with RayProcesses():
            started, agent = daemon()
            left.append(agent)
            started.kill()
            started.communicate()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start()

    assert not lives(left[0])


def test_others_that_were_there_live_on() -> None:
    other, agent = daemon()
    try:
        processes = RayProcesses()
        processes.end(grace_seconds=0)

        assert other.poll() is None
        assert lives(agent)
    finally:
        agent.kill()
        other.kill()
        other.communicate()
