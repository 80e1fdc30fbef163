"""The commit protocol against real S3 servers on loopback."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs
import pytest

from pipeline.errors import CommitFailed, StorageFailed, UsageError
from pipeline.input.units import Unit
from pipeline.output.columns.results import RowResult
from pipeline.output.commit.packed_records import RecordPacker
from pipeline.output.commit.records import CommitRecord
from pipeline.output.dataset import Dataset
from pipeline.output.tally import Tally
from pipeline.storage.base import Storage, check_exclusive, open_storage
from pipeline.worker.answer_cache.store import AnswerStore
from tests.storage.s3_servers import CARELESS, CREDENTIALS, NAMES, make_bucket, s3_server

pytestmark = pytest.mark.early

UNIT = Unit("u1", 0, 0, 2)


@pytest.fixture(scope="module", params=NAMES)
def endpoint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    with s3_server(request.param, tmp_path_factory.mktemp(request.param)) as address:
        make_bucket(address)
        yield address


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Credentials, and an endpoint where nobody listens."""
    import s3fs

    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()  # those of another endpoint
    yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def at_endpoint(no_server: None, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)


@pytest.fixture
def storage(at_endpoint: None, request: pytest.FixtureRequest) -> Storage:
    name = request.node.name.replace("[", "-").replace("]", "")
    return open_storage(f"s3://bucket/{name}")


def test_of_many_creations_at_once_exactly_one_wins(storage: Storage) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: storage.create("record", f"{i}".encode()), range(16)))

    assert won.count(True) == 1
    assert storage.read("record") == str(won.index(True)).encode()


def test_it_creates_exclusively(storage: Storage) -> None:
    check_exclusive(storage, "state")

    assert storage.files("state") == []


def test_many_files_are_read_at_once(storage: Storage) -> None:
    for number in range(20):
        storage.replace(f"state/{number}", str(number).encode())

    paths = [*storage.names("state"), "state/absent"]
    wanted = [path.rpartition("/")[2].encode() for path in paths[:-1]]
    assert len(wanted) == 20
    assert storage.read_many(paths) == [*wanted, None]


def test_what_others_create_after_a_folder_was_listed_is_there(
    storage: Storage, endpoint: str
) -> None:
    """The library remembers listings, and takes what was not in them for not there."""
    storage.create("state/mine", b"1")
    assert storage.names("state") == ["state/mine"]
    s3 = pyarrow.fs.S3FileSystem(
        endpoint_override=endpoint, access_key="test", secret_key="test", region="us-east-1"
    )
    root = storage.address("state").removeprefix("s3://")
    with s3.open_output_stream(f"{root}/theirs") as file:
        file.write(b"2")

    assert storage.create("state/theirs", b"2")  # as if the answer to an earlier try was lost
    assert storage.read("state/theirs") == b"2"
    assert storage.read_many(["state/mine", "state/theirs"]) == [b"1", b"2"]
    storage.publish("state/theirs", "published")
    assert storage.read("published") == b"2"


def test_a_second_attempt_at_a_unit_gets_the_first_ones_record(storage: Storage) -> None:
    dataset = Dataset(storage)
    first = dataset.commit(UNIT, pa.table({"a": [1, 2]}), Tally(rows=2), {})
    second = dataset.commit(UNIT, pa.table({"a": [3, 4]}), Tally(rows=2), {})

    assert second == first
    assert [path for path, _ in storage.files("")] == [UNIT.file_name]
    assert storage.files("_rackmill/attempts") == []


def test_the_dataset_opens_as_one(storage: Storage, endpoint: str) -> None:
    dataset = Dataset(storage)
    dataset.take_over({"fingerprint": "f", "parts": {}})
    dataset.commit(UNIT, pa.table({"a": [1, 2]}), Tally(rows=2), {})
    dataset.commit(Unit("u2", 0, 2, 4), pa.table({"a": [3, 4]}), Tally(rows=2), {})
    dataset.finish({}, "report")
    s3 = pyarrow.fs.S3FileSystem(
        endpoint_override=endpoint, access_key="test", secret_key="test", region="us-east-1"
    )

    read = ds.dataset(storage.address().removeprefix("s3://"), filesystem=s3, format="parquet")
    assert read.to_table().column("a").to_pylist() == [1, 2, 3, 4]


def test_a_crash_before_publishing_is_made_good(storage: Storage) -> None:
    dataset = Dataset(storage)
    record = dataset.commit(UNIT, pa.table({"a": [1, 2]}), Tally(rows=2), {})
    storage.publish(record.file, record.attempt_path)
    storage.delete(record.file)

    dataset.recover(dataset.records().values())
    assert [path for path, _ in storage.files("")] == [UNIT.file_name]


def test_answers_are_shared_through_it(storage: Storage) -> None:
    result = RowResult(completion="x", finish_reason="stop", key=bytes(range(16)))
    AnswerStore(storage, "answers").keep("unit", [result])
    another = AnswerStore(storage, "answers")
    another.refresh()

    assert another.find([bytes(range(16)), bytes(16)]) == {result.key: result}


def test_a_bucket_that_is_not_there_is_said(at_endpoint: None) -> None:
    storage = open_storage("s3://nowhere/run")

    assert storage.read("a") is None
    with pytest.raises(CommitFailed, match="bucket does not exist"):
        storage.create("a", b"")


def test_a_name_that_s3_does_not_allow_is_said(at_endpoint: None) -> None:
    with pytest.raises(CommitFailed):
        open_storage("s3://No_Bucket!/run").create("a", b"")


def test_a_server_that_does_not_create_exclusively_is_refused(
    no_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server(CARELESS, tmp_path) as address:
        make_bucket(address)
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        dataset = Dataset(open_storage("s3://bucket/run"))

        with pytest.raises(UsageError, match="does not create files exclusively"):
            dataset.take_over({"fingerprint": "f", "parts": {}})
        assert dataset.manifest() is None


def test_packed_records_are_those_that_were_committed(storage: Storage) -> None:
    for number in range(220):
        unit = Unit(f"u{number}", 0, number, number + 1)
        tally = Tally(rows=1, prompt_tokens=number)
        record = CommitRecord(unit.id, "a", unit.file_name, 1, "0", tally)
        storage.replace(record.path, record.encode())
    before = Dataset(storage).state()

    assert RecordPacker(storage).pack() == 220
    assert Dataset(storage).state() == before


def test_a_server_that_is_not_there_is_said(no_server: None) -> None:
    storage = open_storage("s3://bucket/run", patience_seconds=0)

    with pytest.raises(StorageFailed, match="Could not connect") as caught:
        storage.read("a")
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EIO
