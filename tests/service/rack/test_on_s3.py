"""A rack whose machines share nothing but an S3 store: input and output lie there."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.service.rack.conftest import IMPATIENT
from tests.service.rack.hosts import Host, Network
from tests.storage.s3_servers import CREDENTIALS
from tests.support.samples import write_model

pytestmark = [pytest.mark.ray, pytest.mark.long]  # commits on S3 and submitted jobs: apart
_ROWS = 600
_PATIENCE_SECONDS = 60.0
_SERVE = "from moto.server import main; main(['-H', '{host}', '-p', '{port}'])"
_FILL = """
import boto3, fsspec, pyarrow as pa, pyarrow.parquet as pq
boto3.client("s3").create_bucket(Bucket="bucket")
table = pa.table({{"id": range({rows}), "text": [f"row {{n}}" for n in range({rows})]}})
with fsspec.open("s3://bucket/rows/part.parquet", "wb") as file:
    pq.write_table(table, file, row_group_size=100)
"""


@dataclass
class Site:
    """``store`` serves S3; ``head`` and ``left`` have a card each; ``laptop`` has the token."""

    store: Host
    head: Host
    left: Host
    laptop: Host
    job: Path

    @property
    def address(self) -> str:
        return f"{self.head.address}:6379"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Network(folder, IMPATIENT | CREDENTIALS) as net:
        hosts = [net.host(name) for name in ("store", "head", "left", "laptop")]
        store, head, left, _ = hosts
        endpoint = f"http://{store.address}:{port}"
        for host in hosts:
            host.environment["AWS_ENDPOINT_URL"] = endpoint
        serving = store.python(_SERVE.format(host=store.address, port=port))
        _wait_for(store, endpoint)
        filled = store.python(_FILL.format(rows=_ROWS)).wait()
        assert filled.code == 0, filled.err
        start = ("rack", "start", "--head", "--host", head.address)
        assert head.rackmill(*start, cards="1x rtx4090").code == 0
        join = ("rack", "join", f"{head.address}:6379", "--host", left.address)
        assert left.rackmill(*join, cards="1x rtx3090").code == 0
        yield Site(*hosts, _write_job(folder))
        serving.kill_all()


def _wait_for(host: Host, endpoint: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not host.fetch(f"{endpoint}/moto-api/"):
        assert time.monotonic() < deadline, "the S3 server does not answer"
        time.sleep(0.5)


def _write_job(folder: Path) -> Path:
    path = folder / "job.yaml"
    path.write_text(
        f"""\
name: on-s3
model: {write_model(folder / "model")}
input: {{path: s3://bucket/rows/*.parquet}}
prompt: "{{text}}"
sampling: {{max_tokens: 16}}
output: {{path: s3://bucket/out, keep: [id]}}
engine: {{kind: simulated, max_num_seqs: 16, simulated: {{step_seconds: 0.1}}}}
"""
    )
    return path


def test_a_job_is_submitted_watched_and_proved_from_machines_that_share_the_store(
    site: Site,
) -> None:
    given = ("--address", site.address, "--json")
    submitted = site.laptop.rackmill("submit", str(site.job), *given)
    assert submitted.code == 0, submitted.err

    watched = site.laptop.rackmill("watch", submitted.json["id"], *given)
    status = site.store.rackmill("status", "s3://bucket/out", "--json")
    verdict = site.store.rackmill("verify", "s3://bucket/out", "--json")

    assert watched.json["state"] == "SUCCEEDED", watched.err
    assert status.json["course"] == "finished"
    assert status.json["rows_done"] == _ROWS
    assert verdict.code == 0, verdict.err


def test_both_machines_worked(site: Site) -> None:
    log = site.laptop.rackmill("logs", "on-s3", "--address", site.address).out

    assert "2 engines (1× RTX 4090 + 1× RTX 3090)" in log
    assert re.search(r"KV \d+% \d+%", log)  # of two engines at once
