"""Local folders, those without hard links among them."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from pipeline.errors import CommitFailed
from pipeline.storage.base import check_exclusive
from pipeline.storage.local import LocalStorage
from pipeline.storage.retrying import PatientStorage


@pytest.fixture(params=["hard links", "renaming"])
def storage(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> LocalStorage:
    if request.param == "renaming":

        def link(*_: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", link)
    return LocalStorage(tmp_path / "run")


def test_of_many_who_create_one_file_exactly_one_wins(storage: LocalStorage) -> None:
    start = threading.Barrier(16)
    won: list[int] = []

    def create(number: int) -> None:
        start.wait()
        if storage.create("a", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=create, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(won) == 1
    assert storage.read("a") == str(won[0]).encode()
    assert storage.files("") == [("a", len(str(won[0])))]


def test_it_creates_exclusively(storage: LocalStorage) -> None:
    check_exclusive(PatientStorage(storage), "state")


def test_what_is_published_is_there_whole_and_the_source_too(storage: LocalStorage) -> None:
    storage.write("attempts/a", lambda path: path.write_bytes(b"rows"))
    for _ in range(2):
        storage.publish("attempts/a", "final")

    assert storage.read("final") == storage.read("attempts/a") == b"rows"
    assert storage.files("") == [("final", 4)]


def test_where_neither_is_possible_rackmill_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(number: int):
        def call(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        return call

    monkeypatch.setattr(os, "link", refuse(errno.EPERM))
    monkeypatch.setattr("pipeline.storage.local._rename_if_free", refuse(errno.ENOTSUP))

    with pytest.raises(CommitFailed, match="not supported") as caught:
        PatientStorage(LocalStorage(tmp_path)).create("a", b"")
    assert "another --output" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        LocalStorage(tmp_path).write("attempts/a", fail)
    assert list((tmp_path / "attempts").iterdir()) == []
