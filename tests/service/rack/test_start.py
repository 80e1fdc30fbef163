"""What is looked at before a machine becomes part of a rack."""

from __future__ import annotations

import socket
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import UsageError
from pipeline.cluster.rack_state.gcs import Node
from pipeline.cluster.rack_state.machines import Machine
from pipeline.engine.machine.facts import own_facts, own_versions
from pipeline.service.rack.keeper import taken_ports
from pipeline.service.rack.start import check_versions, head_node, make_token


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RACKMILL_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "home/token"))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)


def head(**versions: str) -> Machine:
    facts = replace(own_facts(), host="the-head", versions=own_versions() | versions)
    return Machine(Node("id", "the-head-1", "10.0.0.1", True, True, {}), facts)


def test_a_head_with_the_same_versions_is_joined() -> None:
    check_versions([head()])


def test_other_versions_are_named_with_the_mend() -> None:
    with pytest.raises(UsageError) as caught:
        check_versions([head(ray="1.2.3", python="3.9.1")])

    assert "the rack's head the-head has other versions" in str(caught.value)
    assert f"Ray {own_versions()['ray']} here, 1.2.3 there" in str(caught.value)
    assert "3.9 there" in str(caught.value)
    assert "./infra/setup" in str(caught.value)


def test_a_token_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    make_token()
    made = (tmp_path / "home/token").read_text()

    make_token()
    assert (tmp_path / "home/token").read_text() == made
    assert len(made) == 64
    assert stat.S_IMODE((tmp_path / "home/token").stat().st_mode) == 0o600


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("", 0)) as other:
        port = other.getsockname()[1]
        assert taken_ports([port]) == [port]
        with pytest.raises(UsageError, match=f"--port {port} is taken"):
            head_node(port, None, "127.0.0.1")

    assert taken_ports([port]) == []
