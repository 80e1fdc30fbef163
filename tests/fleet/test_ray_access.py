"""Ray is reached by who has its token, and a Ray of our own from this machine alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest

from pipeline.errors import UsageError
from pipeline.fleet.ray_access import check_access, prepare_access


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without a token, and an environment without one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(variable, "")  # so that what the code sets is undone
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "ray")
    return tmp_path


@pytest.mark.parametrize("address", ["198.51.100.7:6379", "ray://head:10001", "[2001:db8::1]:6379"])
def test_a_ray_on_the_network_is_not_joined_without_a_token(address: str) -> None:
    with pytest.raises(UsageError, match="token") as caught:
        check_access(address)
    assert "RAY_AUTH_TOKEN" in str(caught.value)


@pytest.mark.parametrize(
    "address", [None, "auto", "localhost:6379", "127.0.0.1:6379", "[::1]:6379"]
)
def test_a_ray_on_this_machine_is(address: str | None) -> None:
    check_access(address)


def test_with_a_token_it_is_joined_and_the_token_is_used(home: Path) -> None:
    (home / ".ray").mkdir()
    (home / ".ray/auth_token").write_text("x" * 32)
    check_access("198.51.100.7:6379")
    prepare_access("198.51.100.7:6379")
    assert os.environ["RAY_AUTH_MODE"] == "token"


def test_who_trusts_the_network_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    check_access("198.51.100.7:6379")
    prepare_access(None)
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert not os.environ["RAY_AUTH_TOKEN"]


def test_a_ray_of_our_own_gets_a_token_that_nobody_knows(home: Path) -> None:
    prepare_access(None)
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert not (home / ".ray").exists()


_LOOK = """
import sys
from pipeline.fleet.cluster import Cluster
cluster = Cluster(None)
print("up", flush=True)
sys.stdin.read()
cluster.close()
"""


@pytest.mark.ray
def test_a_ray_of_our_own_listens_on_loopback_alone_and_shows_no_dashboard(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess

    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    with subprocess.Popen(
        [sys.executable, "-c", _LOOK],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as driver:
        assert driver.stdin is not None
        assert driver.stdout is not None
        assert driver.stdout.readline() == "up\n"
        family = [psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)]
        listening = [
            (process.name(), connection.laddr)
            for process in family
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        ]
        commands = [" ".join(process.cmdline()) for process in family]
        tokens = {process.environ().get("RAY_AUTH_TOKEN", "") for process in family[1:]}
        driver.stdin.close()
        driver.wait(60)
    assert listening
    loopback = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
    assert [found for found in listening if found[1].ip not in loopback] == []
    # the process that would serve it is there for other chores; it listens to nobody
    assert not [c for c in commands if "/dashboard.py" in c and "--disable-frontend" not in c]
    token = max(tokens, key=len)
    assert len(token) == 64
    assert not [c for c in commands if token in c]  # what ps shows to everyone
