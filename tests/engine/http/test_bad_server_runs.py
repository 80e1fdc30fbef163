"""Whole runs over servers that misbehave: error rows where a row's answer is wrong, an error that
says what is where nothing works, and in either case nothing is lost or doubled."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
from aiohttp import web

from pipeline.errors import EndpointGone, RackmillError, UsageError
from tests.chaos.in_process import run_here
from tests.engine.http.fake_server import FakeServer, Handler, llama, llama_pieces, streamed
from tests.engine.http.test_bad_servers import (
    AT_THE_START,
    FOR_A_ROW,
    _closes,
    _closes_in_the_middle,
    _hangs,
)
from tests.support.datasets import job_in, write_input

pytestmark = pytest.mark.early

_ROWS = 40


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.engine.http.client._PAUSE_SECONDS", (0.01, 0.01))
    monkeypatch.setattr("pipeline.engine.http.kind._BRIEF_SECONDS", 1.0)


def _job(folder: Path, url: str, patience: float = 60.0) -> Any:
    if not (folder / "rows").exists():
        write_input(folder / "rows", _ROWS)
    engine = {"kind": "llama.cpp", "url": url, "max_num_seqs": 4}
    return job_in(folder, engine=engine, faults={"step_timeout_seconds": patience})


def _rows(folder: Path) -> dict[str, Any]:
    rows: dict[str, Any] = ds.dataset(folder / "out").to_table().to_pydict()
    assert rows["id"] == list(range(_ROWS))
    return rows


def _sometimes(bad: Handler) -> Handler:
    """``bad`` for about half of the rows, by their length."""

    async def answer(request: web.Request, body: Any) -> web.StreamResponse:
        if request.path == "/props" or len(body["prompt"]) % 2:
            return await llama(request, body)
        return await bad(request, body)

    return answer


async def _ends_with_an_error(request: web.Request, body: Any) -> web.StreamResponse:
    error = {"error": {"code": 400, "message": "slot lost"}}
    return await streamed(request, [*llama_pieces(body)[:2], error])


WRONG = {name: (handle, said) for name, (handle, _, said) in FOR_A_ROW.items()}
WRONG["an error in its stream"] = (_ends_with_an_error, "slot lost")


@pytest.mark.parametrize("bad", WRONG)
def test_rows_with_a_bad_answer_are_error_rows_beside_the_others(bad: str, tmp_path: Path) -> None:
    handle, said = WRONG[bad]
    with FakeServer(_sometimes(handle)) as server:
        summary = run_here(_job(tmp_path, server.url))
    rows = _rows(tmp_path)

    assert summary.exit_code == 3
    assert 0 < summary.failed < _ROWS
    for completion, error in zip(rows["completion"], rows["error"], strict=True):
        assert (completion == "yes") == (error is None)
        assert error is None or said in error["message"]


async def _breaks_off(request: web.Request, body: Any) -> web.StreamResponse:
    return await streamed(request, llama_pieces(body)[:2], closes=True)


GONE: dict[str, Handler] = {
    "hangs": _hangs,
    "closes": _closes,
    "closes in the middle": _closes_in_the_middle,
    "breaks its streams off": _breaks_off,
}


@pytest.mark.parametrize("bad", GONE)
def test_a_server_that_stops_answering_loses_no_row(bad: str, tmp_path: Path) -> None:
    """What is committed stays, and the same command does the rest."""
    asked = iter(range(1 << 30))

    async def after_a_while(request: web.Request, body: Any) -> web.StreamResponse:
        if request.path == "/props" or next(asked) < _ROWS // 2:
            return await llama(request, body)
        return await GONE[bad](request, body)

    with FakeServer(after_a_while) as server, pytest.raises(EndpointGone):
        run_here(_job(tmp_path, server.url, patience=2.0))
    with FakeServer(llama) as server:
        summary = run_here(_job(tmp_path, server.url))
    rows = _rows(tmp_path)

    assert summary.failed == 0
    assert set(rows["completion"]) == {"yes"}


@pytest.mark.parametrize(
    "bad", sorted(AT_THE_START.keys() - {"hangs", "slow headers", "503 for ever"})
)
def test_a_bad_server_is_an_error_of_the_run_before_anything_is_written(
    bad: str, tmp_path: Path
) -> None:
    handle, _, said = AT_THE_START[bad]
    with FakeServer(handle) as server, pytest.raises(RackmillError, match=said) as error:
        run_here(_job(tmp_path, server.url))

    assert isinstance(error.value, UsageError | EndpointGone)
    assert server.url in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("bad", ["hangs", "slow headers", "503 for ever"])
def test_one_that_does_not_answer_is_given_up_when_the_patience_is_over(
    bad: str, tmp_path: Path
) -> None:
    handle, _, _ = AT_THE_START[bad]
    with FakeServer(handle) as server, pytest.raises(RackmillError, match="is not back"):
        run_here(_job(tmp_path, server.url, patience=2.0))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")
def test_a_certificate_that_nobody_trusts_is_said_and_nothing_is_sent(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        capture_output=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with FakeServer(llama, tls=tls) as server:
        with pytest.raises(UsageError, match="certificate is not trusted") as error:
            run_here(_job(tmp_path, server.url))
        assert server.asked == []

    assert "SSL_CERT_FILE" in str(error.value)
