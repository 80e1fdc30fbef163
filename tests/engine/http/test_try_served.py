"""`rackmill try` over servers: the connection stays for the next one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.driver.trial.client import WarmEngine
from pipeline.driver.trial.trial import try_rows
from pipeline.errors import EndpointGone
from tests.engine.http.fake_server import FakeServer, llama
from tests.support.datasets import job_in, write_input


@pytest.fixture
def warm(tmp_path: Path) -> Iterator[WarmEngine]:
    engine = WarmEngine(tmp_path / "w")
    yield engine
    engine.end()


def test_the_second_try_finds_the_server_connected(tmp_path: Path, warm: WarmEngine) -> None:
    write_input(tmp_path / "rows", 40)
    with FakeServer(llama) as server:
        engine = {"kind": "llama.cpp", "url": server.url}
        first = try_rows(job_in(tmp_path, engine=engine), 3, lambda line: None, warm)
        connected = [path for path, _ in server.asked].count("/props")
        edited = job_in(tmp_path, engine=engine, prompt="Say yes: {text}")
        second = try_rows(edited, 3, lambda line: None, warm)
        again = [path for path, _ in server.asked].count("/props")

    assert (first.warm, second.warm) == (False, True)
    assert [row.result.completion for row in second.rows] == ["yes"] * 3
    assert again == connected


def test_a_server_that_is_away_is_said_at_once(tmp_path: Path, warm: WarmEngine) -> None:
    write_input(tmp_path / "rows", 40)
    job = job_in(tmp_path, engine={"kind": "llama.cpp", "url": "http://127.0.0.1:9"})
    with pytest.raises(EndpointGone, match="connection refused"):
        try_rows(job, 3, lambda line: None, warm)
