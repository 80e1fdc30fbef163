from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import RowError, RowErrorType, UsageError
from pipeline.job.job import Job
from pipeline.output.columns.results import RowResult
from pipeline.output.commit.records import ANSWERS
from pipeline.output.dataset import Dataset
from pipeline.rows.request import Scores
from pipeline.storage.base import Storage, open_storage
from pipeline.storage.local import LocalStorage
from pipeline.worker.answer_cache.store import AnswerStore, check_store, open_answers
from tests.support.samples import job

Open = Callable[[], AnswerStore]


def key(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def result(text: str, **changes: Any) -> RowResult:
    given: dict[str, Any] = {
        "completion": text,
        "finish_reason": "stop",
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "key": key(text),
    }
    return RowResult(**given | changes)


@pytest.fixture
def another(storage: Storage) -> Open:
    """Opens the same store anew, as another worker does."""
    return lambda: AnswerStore(storage, ANSWERS)


@pytest.mark.parametrize(
    "kept",
    [
        result("free text: ä\n"),
        result(""),
        result("yes", label="yes", confidence=2 / 3, probabilities=(2 / 3, 1 / 3)),
        result('{"a": [1, "ü"], "b": null}', fields={"a": [1, "ü"], "b": None}),
    ],
)
def test_an_answer_comes_back_as_it_was(another: Open, kept: RowResult) -> None:
    another().keep("unit", [kept])
    store = another()
    store.refresh()

    assert kept.key is not None
    assert store.may_have(kept.key)
    assert store.find([kept.key]) == {kept.key: kept}


def test_of_many_answers_each_is_found_by_its_key(another: Open) -> None:
    for unit in range(5):
        another().keep(f"u{unit}", [result(f"{unit}-{n}") for n in range(100)])
    store = another()
    store.refresh()
    texts = [f"{unit}-{n}" for unit in range(5) for n in range(0, 100, 7)]
    found = store.find([key(t) for t in texts] + [key("unknown")])

    assert {k: r.completion for k, r in found.items()} == {key(t): t for t in texts}
    assert len(store) == 500


def test_what_a_worker_keeps_it_knows_itself(another: Open) -> None:
    store = another()
    store.keep("unit", [result("x")])

    assert store.may_have(key("x"))
    assert key("x") in store.find([key("x")])
    store.refresh()
    assert len(store) == 1


def test_what_others_keep_is_known_after_a_refresh(another: Open) -> None:
    store = another()
    store.refresh()
    another().keep("unit", [result("x")])
    assert not store.may_have(key("x"))
    store.refresh()

    assert store.may_have(key("x"))


@pytest.mark.parametrize(
    "not_kept",
    [
        result("x", key=None),
        result("x", duplicate=True),
        result("x", error=RowError(RowErrorType.SCHEMA_NOT_MET, "no", 1)),
        result(
            "x",
            scores=Scores(
                np.zeros(1, np.int32), np.zeros(1, np.float32), np.zeros((1, 0)), np.zeros((1, 0))
            ),
        ),
    ],
)
def test_only_what_was_computed_well_and_repeats_is_kept(
    another: Open, storage: Storage, not_kept: RowResult
) -> None:
    store = another()
    store.keep("unit", [not_kept])
    assert storage.files(ANSWERS) == []

    store.keep("unit", [not_kept, result("y")])
    assert len(store) == 1


def test_all_of_a_key_counts(another: Open) -> None:
    """The index holds half of it."""
    store = another()
    store.keep("unit", [result("x")])
    near = key("x")[:8] + bytes(8)

    assert store.may_have(near)
    assert store.find([near]) == {}


def test_keys_with_the_same_beginning_are_told_apart(another: Open) -> None:
    store = another()
    twins = [result(f"t{n}", key=bytes(8) + bytes([0] * 7 + [n])) for n in range(3)]
    store.keep("unit", twins)

    for twin in twins:
        assert twin.key is not None
        assert store.find([twin.key]) == {twin.key: twin}


class TestTrouble:
    def test_a_file_that_is_gone_holds_no_answer(self, another: Open, storage: Storage) -> None:
        store = another()
        store.keep("unit", [result("x")])
        for path, _ in storage.files(ANSWERS):
            storage.delete(path)

        assert store.find([key("x")]) == {}

    def test_a_damaged_file_is_passed_over(self, another: Open, storage: Storage) -> None:
        storage.replace(f"{ANSWERS}/u-1.parquet", b"PAR1 no more")
        another().keep("unit", [result("x")])
        store = another()
        store.refresh()

        assert key("x") in store.find([key("x")])

    def test_what_cannot_be_written_is_left_out(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        AnswerStore(LocalStorage(tmp_path / "file"), "answers").keep("unit", [result("x")])

    def test_a_small_cache_still_finds_everything(self, storage: Storage) -> None:
        store = AnswerStore(storage, ANSWERS, cache_bytes=1)
        for unit in range(4):
            store.keep(f"u{unit}", [result(f"{unit}")])

        assert len(store.find([key(f"{unit}") for unit in range(4)])) == 4
        assert len(store._cache) == 1


def opened(made: Job, model_hash: str) -> AnswerStore | None:
    return open_answers(made, model_hash, open_storage(made.output.path))


class TestOfAJob:
    def test_a_jobs_own_answers_lie_with_its_output(self, tmp_path: Path) -> None:
        store = opened(job(output={"path": str(tmp_path / "out")}), "m")
        assert store is not None
        store.keep("unit", [result("x")])

        assert len(list((tmp_path / "out/_rackmill/answers").iterdir())) == 1

    def test_they_go_when_the_job_is_done_or_begun_anew(self, storage: Storage) -> None:
        for end in (lambda d: d.finish({}, ""), lambda d: d.clear()):
            AnswerStore(storage, ANSWERS).keep("unit", [result("x")])
            end(Dataset(storage))
            assert storage.files(ANSWERS) == []

    def test_jobs_share_a_store(self, tmp_path: Path) -> None:
        settings = {"duplicates": {"store": str(tmp_path / "store")}}
        first = opened(job(name="a", output={"path": "a"}, **settings), "m")
        second = opened(job(name="b", output={"path": "b"}, **settings), "m")
        assert first is not None
        assert second is not None
        first.keep("unit", [result("x")])
        second.refresh()

        assert second.may_have(key("x"))

    @pytest.mark.parametrize(
        ("model", "changes"), [("n", {}), ("m", {"label": {"choices": ["a", "b"]}})]
    )
    def test_a_job_of_another_kind_reads_none_of_them(
        self, tmp_path: Path, model: str, changes: dict[str, Any]
    ) -> None:
        settings = {"duplicates": {"store": str(tmp_path)}}
        first = opened(job(**settings), "m")
        other = opened(job(**settings, **changes), model)
        assert first is not None
        assert other is not None
        first.keep("unit", [result("x")])
        other.refresh()

        assert len(other) == 0

    @pytest.mark.parametrize("changes", [{"duplicates": {"answer_once": False}}, {"score": {}}])
    def test_there_may_be_none(self, changes: dict[str, Any]) -> None:
        assert opened(job(**changes), "m") is None

    def test_a_shared_store_that_cannot_be_written_is_found_out(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        check_store(job())
        check_store(job(duplicates={"store": str(tmp_path / "new/folder")}))

        with pytest.raises(UsageError, match=r"duplicates\.store is not writable"):
            check_store(job(duplicates={"store": str(tmp_path / "file")}))
