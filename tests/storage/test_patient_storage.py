"""Storage that fails now and then: what passes is waited out, the rest is explained."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import (
    CommitFailed,
    CommitStateUnknown,
    JobFailed,
    StorageFailed,
)
from pipeline.storage.base import open_storage
from pipeline.storage.local import LocalStorage
from pipeline.storage.retrying import PatientStorage
from pipeline.storage.transient_errors import passes, patiently
from tests.support.storage_faults import VARIABLE, FaultyStorage, InjectedFaults

PASSING = [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET, errno.EBUSY]
STAYING = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR]


class Scripted:
    """A local storage whose operations fail as told: before they take effect, or after it."""

    def __init__(self, root: Path, *script: tuple[str, int] | None) -> None:
        """``script``: ("before" | "after", errno) or None (all is well) for each call in turn;
        then all is well."""
        self._inner = LocalStorage(root)
        self._script: Iterator[tuple[str, int] | None] = iter(script)

    def __getattr__(self, name: str) -> Any:
        real: Callable[..., Any] = getattr(self._inner, name)
        if name == "address":
            return real

        def call(*arguments: Any) -> Any:
            fault = next(self._script, None)
            if fault is not None and fault[0] == "before":
                raise OSError(fault[1], os.strerror(fault[1]))
            result = real(*arguments)
            if fault is not None:
                if name == "open":
                    result.close()
                raise OSError(fault[1], os.strerror(fault[1]))
            return result

        return call


def patient(root: Path, *script: tuple[str, int] | None, seconds: float = 30.0) -> PatientStorage:
    return PatientStorage(Scripted(root, *script), seconds)  # type: ignore[arg-type]


def fill(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


OPERATIONS: dict[str, Callable[[PatientStorage], Any]] = {
    "read": lambda s: s.read("a"),
    "read_many": lambda s: s.read_many(["a"]),
    "open": lambda s: s.open("a").close(),
    "files": lambda s: s.files(""),
    "names": lambda s: s.names(""),
    "folders": lambda s: s.folders(),
    "create": lambda s: s.create("b", b"mine"),
    "replace": lambda s: s.replace("a", b"two"),
    "write": lambda s: s.write("b", fill(b"rows")),
    "publish": lambda s: s.publish("a", "final"),
    "delete": lambda s: s.delete("a"),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "a").write_bytes(b"one")
    return tmp_path


@pytest.mark.parametrize("number", PASSING)
def test_what_passes_is_waited_out(number: int, root: Path) -> None:
    assert patient(root, ("before", number)).read("a") == b"one"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_may_fail_once(name: str, when: str, root: Path, tmp_path: Path) -> None:
    plain = OPERATIONS[name](patient(root))
    assert OPERATIONS[name](patient(root, (when, errno.EIO))) in (plain, True)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_stays_is_not_tried_again(name: str, root: Path) -> None:
    with pytest.raises(JobFailed):
        OPERATIONS[name](patient(root, ("before", errno.EACCES)))


def test_a_lost_answer_does_not_look_like_a_lost_race(root: Path) -> None:
    assert patient(root, ("after", errno.ECONNRESET)).create("b", b"mine") is True


def test_a_lost_race_is_one_also_where_answers_are_lost(root: Path) -> None:
    (root / "b").write_bytes(b"theirs")

    assert patient(root, ("before", errno.EIO), ("after", errno.EIO)).create("b", b"mine") is False
    assert (root / "b").read_bytes() == b"theirs"


def test_a_creation_that_never_got_an_answer_is_unknown_and_stays(root: Path) -> None:
    with pytest.raises(CommitStateUnknown, match="did not say whether"):
        patient(root, ("after", errno.EIO), seconds=0).create("b", b"mine")
    assert (root / "b").read_bytes() == b"mine"


def test_no_room_after_a_lost_answer_is_unknown_too(root: Path) -> None:
    with pytest.raises(CommitStateUnknown):
        patient(root, ("after", errno.EIO), ("before", errno.ENOSPC)).create("b", b"mine")


@pytest.mark.parametrize("number", STAYING)
@pytest.mark.parametrize("name", ["create", "replace", "write"])
def test_what_cannot_be_written_was_not(name: str, number: int, root: Path) -> None:
    with pytest.raises(CommitFailed, match=os.strerror(number)) as caught:
        OPERATIONS[name](patient(root, ("before", number)))
    assert str(root) in caught.value.message
    assert caught.value.hints


def test_no_room_says_what_to_do(root: Path) -> None:
    with pytest.raises(CommitFailed) as caught:
        patient(root, ("before", errno.ENOSPC)).replace("a", b"")
    assert "make room" in str(caught.value)
    assert "the same command goes on from there" in str(caught.value)


@pytest.mark.parametrize("name", ["read", "files", "publish", "delete"])
def test_other_trouble_is_an_error_of_storage(name: str, root: Path) -> None:
    with pytest.raises(StorageFailed):
        OPERATIONS[name](patient(root, *[("before", errno.EIO)] * 3, seconds=0))


def test_a_file_that_is_not_there_is_an_answer(root: Path) -> None:
    with pytest.raises(FileNotFoundError):
        patient(root).open("absent")


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError()])
def test_libraries_time_outs_pass_also_without_a_number(error: OSError) -> None:
    assert passes(error)


@pytest.mark.parametrize("error", [OSError("damaged"), FileNotFoundError(), ValueError()])
def test_what_says_nothing_of_storage_does_not(error: Exception) -> None:
    assert not passes(error)


def test_patience_ends(root: Path) -> None:
    def busy() -> None:
        raise OSError(errno.EBUSY, "busy")

    with pytest.raises(OSError, match="busy"):
        patiently(busy, 0.2)


class TestFaults:
    def test_they_are_made_where_the_environment_asks_for_them(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(VARIABLE, f"full_from=1,patience=0,counter={root}/count")

        with pytest.raises(CommitFailed, match="No space left"):
            open_storage(str(root)).replace("a", b"")
        open_storage(str(root), patience_seconds=0).replace("a", b"")

    def test_operations_are_counted_over_all_storages(self, root: Path) -> None:
        faults = InjectedFaults(lose_at=3, counter=str(root / "count"))
        one, other = (FaultyStorage(LocalStorage(root), faults) for _ in range(2))
        one.read("a")
        other.read("a")

        with pytest.raises(ConnectionResetError):
            one.replace("a", b"two")
        assert other.read("a") == b"two"

    def test_one_call_in_so_many_fails(self, root: Path) -> None:
        storage = FaultyStorage(LocalStorage(root), InjectedFaults(fail_one_in=5, lose_one_in=5))
        failed = 0
        for _ in range(500):
            try:
                storage.read("a")
            except OSError:
                failed += 1
        assert 100 < failed < 260  # 180 in the mean

    def test_a_read_only_storage_can_be_read(self, root: Path) -> None:
        storage = FaultyStorage(LocalStorage(root), InjectedFaults(read_only_from=1))

        assert storage.read("a") == b"one"
        with pytest.raises(OSError, match="Read-only"):
            storage.delete("a")

    @pytest.mark.parametrize("text", ["nonsense", "exit_at=x", "no=1"])
    def test_a_fault_nobody_knows_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="exit_at"):
            InjectedFaults.from_text(text)
