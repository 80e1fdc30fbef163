"""Ray is reached by who has its token, and a Ray of our own from this machine alone."""

from __future__ import annotations

import http.server
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pipeline.cluster.ray_access import check_access, prepare_access
from pipeline.cluster.ray_head import Head, look_at
from pipeline.errors import UsageError
from pipeline.service.rack.ray_node import AGENT_PORT
from tests.support.ray_head import SharedRay, ray_head


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without a token, and an environment without one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(variable, "")  # so that what the code sets is undone
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "ray")
    return tmp_path


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[Head], None]:
    """Has such a Ray answer at every address."""

    def answer(head: Head) -> None:
        monkeypatch.setattr("pipeline.cluster.ray_access.look_at", lambda address, token: head)

    return answer


@pytest.fixture
def token(home: Path) -> None:
    (home / ".ray").mkdir()
    (home / ".ray/auth_token").write_text("x" * 32)


AFAR = "198.51.100.7:6379"
HERE = "127.0.0.1:6379"


@pytest.mark.parametrize("address", [AFAR, "ray://head:10001", "[2001:db8::1]:6379"])
def test_a_ray_on_the_network_is_not_joined_without_a_token(address: str) -> None:
    with pytest.raises(UsageError, match="token") as caught:
        check_access(address)
    assert "RAY_AUTH_TOKEN" in str(caught.value)


@pytest.mark.parametrize("address", [None, "auto", "localhost:6379", HERE, "[::1]:6379"])
def test_a_ray_on_this_machine_is(address: str | None, answers) -> None:
    answers(Head.OPEN)
    check_access(address)


def test_with_a_token_it_is_joined_and_the_token_is_used(token: None, answers) -> None:
    answers(Head.OURS)
    check_access(AFAR)
    prepare_access(AFAR)
    assert os.environ["RAY_AUTH_MODE"] == "token"


def test_who_trusts_the_network_says_so(monkeypatch: pytest.MonkeyPatch, answers) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    answers(Head.OPEN)
    check_access(AFAR)
    prepare_access(None)
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert not os.environ["RAY_AUTH_TOKEN"]


def test_a_ray_of_this_machine_without_authentication_is_joined_with_a_token_around(
    token: None, answers
) -> None:
    answers(Head.OPEN)
    check_access(HERE)
    prepare_access(HERE)
    assert os.environ["RAY_AUTH_MODE"] == "disabled"


@pytest.mark.parametrize(
    ("head", "word"),
    [
        (Head.OPEN, "takes orders from anybody"),
        (Head.LOCKED, "does not take the token"),
        (Head.STRANGER, "is no Ray"),
        (Head.NOBODY, "no Ray answers"),
    ],
)
def test_what_cannot_be_joined_is_said(head: Head, word: str, token: None, answers) -> None:
    answers(head)
    with pytest.raises(UsageError, match=word):
        check_access(AFAR)


def test_a_token_that_is_kept_back_is_said(
    token: None, answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    answers(Head.OURS)
    with pytest.raises(UsageError, match="wants its token"):
        check_access(HERE)


class TestLook:
    """At real ports."""

    @pytest.mark.ray
    def test_a_ray_with_a_token(self, shared_ray: SharedRay) -> None:
        right = shared_ray.environment["RAY_AUTH_TOKEN"]
        looks = [look_at(shared_ray.address, t) for t in (right, "x" * 64, None)]
        assert looks == [Head.OURS, Head.LOCKED, Head.LOCKED]

    @pytest.mark.ray
    def test_a_ray_without_one(self, tmp_path: Path) -> None:
        with ray_head(tmp_path, {"RAY_AUTH_MODE": "disabled"}) as head:
            assert look_at(head.address, "x" * 64) is Head.OPEN

    def test_something_else(self) -> None:
        server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        assert look_at(f"127.0.0.1:{server.server_port}", None) is Head.STRANGER
        server.shutdown()
        thread.join()
        server.server_close()

    def test_nothing(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        assert look_at(address, None) is Head.NOBODY


def test_a_ray_of_our_own_gets_a_token_that_nobody_knows(home: Path) -> None:
    prepare_access(None)
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert not (home / ".ray").exists()


_LOOK = """
import sys
from pipeline.cluster.ray_cluster import Cluster
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
    # a rack that starts in the same moment needs that one
    assert AGENT_PORT not in {found[1].port for found in listening}
    # they would only wake up on the cores that engines compute with
    idle = ("/dashboard.py", "/monitor.py", "/log_monitor.py")
    assert not [c for c in commands if any(name in c for name in idle)]
    token = max(tokens, key=len)
    assert len(token) == 64
    assert not [c for c in commands if token in c]  # what ps shows to everyone


def test_a_machine_that_does_not_reach_itself_is_told_so_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.cluster.ray_access._LOOPBACK", "198.51.100.7")  # nobody's

    with pytest.raises(UsageError, match="does not reach itself") as caught:
        check_access(None)

    assert "ip link set lo up" in str(caught.value)
