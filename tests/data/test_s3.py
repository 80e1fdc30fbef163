"""The commit protocol against a real S3 server on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs
import pytest

from pipeline.data.answer_store import AnswerStore
from pipeline.data.dataset import Dataset
from pipeline.data.results import RowResult
from pipeline.data.storage import ObjectStorage, open_storage
from pipeline.data.tally import Tally
from pipeline.data.units import Unit

UNIT = Unit("u1", 0, 0, 2)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def storage(
    endpoint: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> ObjectStorage:
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    boto3.client("s3").create_bucket(Bucket="bucket")
    opened = open_storage(f"s3://bucket/{request.node.name}")
    assert isinstance(opened, ObjectStorage)
    return opened


def test_of_many_creations_at_once_exactly_one_wins(storage: ObjectStorage) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: storage.create("record", f"{i}".encode()), range(16)))

    assert won.count(True) == 1
    assert storage.read("record") == str(won.index(True)).encode()


def test_a_second_attempt_at_a_unit_gets_the_first_ones_record(storage: ObjectStorage) -> None:
    dataset = Dataset(storage)
    first = dataset.commit(UNIT, pa.table({"a": [1, 2]}), Tally(rows=2), {})
    second = dataset.commit(UNIT, pa.table({"a": [3, 4]}), Tally(rows=2), {})

    assert second == first
    assert [path for path, _ in storage.files("")] == [UNIT.file_name]
    assert storage.files("_rackmill/attempts") == []


def test_the_dataset_opens_as_one(storage: ObjectStorage, endpoint: str) -> None:
    dataset = Dataset(storage)
    dataset.claim({"fingerprint": "f", "parts": {}})
    dataset.commit(UNIT, pa.table({"a": [1, 2]}), Tally(rows=2), {})
    dataset.commit(Unit("u2", 0, 2, 4), pa.table({"a": [3, 4]}), Tally(rows=2), {})
    dataset.finish({}, "report")
    s3 = pyarrow.fs.S3FileSystem(
        endpoint_override=endpoint, access_key="test", secret_key="test", region="us-east-1"
    )

    read = ds.dataset(storage.address().removeprefix("s3://"), filesystem=s3, format="parquet")
    assert read.to_table().column("a").to_pylist() == [1, 2, 3, 4]


def test_a_crash_before_publishing_is_made_good(storage: ObjectStorage) -> None:
    dataset = Dataset(storage)
    record = dataset.commit(UNIT, pa.table({"a": [1, 2]}), Tally(rows=2), {})
    storage.publish(record.file, record.attempt_path)
    storage.delete(record.file)

    dataset.recover(dataset.records().values())
    assert [path for path, _ in storage.files("")] == [UNIT.file_name]


def test_answers_are_shared_through_it(storage: ObjectStorage) -> None:
    result = RowResult(completion="x", finish_reason="stop", key=bytes(range(16)))
    AnswerStore(storage, "answers").keep("unit", [result])
    another = AnswerStore(storage, "answers")
    another.refresh()

    assert another.find([bytes(range(16)), bytes(16)]) == {result.key: result}
