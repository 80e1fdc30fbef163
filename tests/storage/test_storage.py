"""Storage: what the commit protocol stands on, the same for every kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import CommitFailed, UsageError
from pipeline.storage.base import Storage, check_exclusive, open_storage
from pipeline.storage.local import LocalStorage
from pipeline.storage.object_store import ObjectStorage
from pipeline.storage.retrying import PatientStorage


def fill(content: bytes):
    return lambda path: path.write_bytes(content)


def test_what_is_created_can_be_read(storage: Storage) -> None:
    assert storage.create("state/a.json", b"one") is True
    assert storage.read("state/a.json") == b"one"


def test_creating_again_changes_nothing_and_says_so(storage: Storage) -> None:
    storage.create("a", b"one")

    assert storage.create("a", b"two") is False
    assert storage.read("a") == b"one"


def test_creating_leaves_one_file(storage: Storage) -> None:
    storage.create("state/a", b"one")
    storage.create("state/a", b"two")

    assert storage.files("state") == [("state/a", 3)]


def test_an_object_store_that_repeats_ones_own_success_is_a_success(memory: str) -> None:
    """A request whose answer was lost is sent again, and finds its own object."""
    storage = open_storage(memory)
    storage.create("a", b"mine")

    assert storage.create("a", b"mine") is True


def test_what_is_not_there_reads_as_none(storage: Storage) -> None:
    assert storage.read("absent") is None


def test_replace_writes_over_a_file(storage: Storage) -> None:
    storage.replace("a", b"one")
    storage.replace("a", b"two")

    assert storage.read("a") == b"two"


def test_write_keeps_what_the_writer_filled(storage: Storage) -> None:
    storage.write("attempts/a", fill(b"rows"))

    assert storage.read("attempts/a") == b"rows"


def test_a_writer_that_fails_leaves_nothing(storage: Storage) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(CommitFailed, match="No space left"):
        storage.write("attempts/a", fail)
    assert storage.files("attempts") == []


def test_publish_makes_a_file_appear_whole_under_another_name(storage: Storage) -> None:
    storage.write("attempts/a", fill(b"rows"))
    storage.publish("attempts/a", "final")

    assert storage.read("final") == b"rows"


def test_publishing_again_is_harmless(storage: Storage) -> None:
    storage.write("attempts/a", fill(b"rows"))
    storage.publish("attempts/a", "final")
    storage.publish("attempts/a", "final")

    assert storage.read("final") == b"rows"


def test_what_is_published_outlives_its_source(storage: Storage) -> None:
    storage.write("attempts/a", fill(b"rows"))
    storage.publish("attempts/a", "final")
    storage.delete("attempts/a")

    assert storage.read("final") == b"rows"


def test_list_gives_the_files_of_one_folder_sorted_with_sizes(storage: Storage) -> None:
    for path in ("b", "a", "deep/c"):
        storage.replace(path, path.encode())

    assert storage.files("") == [("a", 1), ("b", 1)]
    assert storage.files("deep") == [("deep/c", 6)]


def test_a_folder_that_is_not_there_is_empty(storage: Storage) -> None:
    assert storage.files("absent") == []


def test_deleting_is_harmless_where_there_is_nothing(storage: Storage) -> None:
    storage.replace("a", b"x")
    storage.delete("a")
    storage.delete("a")

    assert storage.read("a") is None


def test_publishing_takes_the_place_of_what_was_there(storage: Storage) -> None:
    storage.replace("final", b"something else")
    storage.write("attempts/a", fill(b"rows"))
    storage.publish("attempts/a", "final")

    assert storage.read("final") == b"rows"
    assert storage.files("") == [("final", 4)]


def test_a_relative_address_is_the_folder_and_the_path(tmp_path: Path, memory: str) -> None:
    assert LocalStorage(tmp_path).address("a/b") == f"{tmp_path}/a/b"
    assert ObjectStorage(f"{memory}/").address("a/b") == f"{memory}/a/b"


@pytest.mark.parametrize("form", ["{0}", "file://{0}", "local://{0}"])
def test_a_local_address_is_a_local_folder(tmp_path: Path, form: str) -> None:
    opened = open_storage(form.format(tmp_path))

    assert isinstance(opened, PatientStorage)
    assert isinstance(opened.inner, LocalStorage)
    assert opened.inner.root == tmp_path


def test_another_address_is_an_object_store(memory: str) -> None:
    opened = open_storage(memory)

    assert isinstance(opened, PatientStorage)
    assert isinstance(opened.inner, ObjectStorage)


def test_a_protocol_nobody_knows_is_refused() -> None:
    with pytest.raises(UsageError, match=r"output\.path"):
        open_storage("nonsense://bucket/run")


def test_many_files_are_read_in_the_order_asked_for(storage: Storage) -> None:
    for path in ("state/a", "state/b"):
        storage.replace(path, path.encode())

    asked = ["state/b", "state/absent", "state/a"]
    assert storage.read_many(asked) == [b"state/b", None, b"state/a"]
    assert storage.read_many([]) == []


def test_a_file_of_any_size_is_read_whole(storage: Storage) -> None:
    content = bytes(range(256)) * 1024
    storage.replace("a", content)

    assert storage.read("a") == content


def test_names_are_those_of_the_files_of_one_folder(storage: Storage) -> None:
    for path in ("b", "a", "deep/c"):
        storage.replace(path, path.encode())

    assert sorted(storage.names("")) == ["a", "b"]
    assert storage.names("deep") == ["deep/c"]
    assert storage.names("absent") == []


def test_a_storage_that_creates_exclusively_passes_the_probe(storage: Storage) -> None:
    check_exclusive(storage, "state")

    assert storage.files("state") == []


def test_a_storage_that_does_not_is_refused(memory: str) -> None:
    """As S3 servers do that know nothing of If-None-Match."""

    class Careless(ObjectStorage):
        def create(self, path: str, content: bytes) -> bool:
            self.replace(path, content)
            return True

    storage = PatientStorage(Careless(memory))

    with pytest.raises(UsageError, match="does not create files exclusively"):
        check_exclusive(storage, "state")
    assert storage.files("state") == []
