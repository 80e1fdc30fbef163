from __future__ import annotations

import numpy as np
import pytest

from pipeline.worker.answer_cache.index import AnswerIndex


def heads(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint64)


def test_a_head_is_found_in_its_files() -> None:
    index = AnswerIndex()
    index.add("a", heads(3, 1, 2))
    index.add("b", heads(2, 9))

    assert [set(index.files(n)) for n in (1, 2, 9, 5)] == [{"a"}, {"a", "b"}, {"b"}, set()]
    assert len(index) == 5


@pytest.mark.parametrize("head", [0, 1, 1 << 53, (1 << 53) + 1, (1 << 64) - 1])
def test_all_64_bits_count(head: int) -> None:
    index = AnswerIndex()
    index.add("a", heads(head))

    assert list(index.files(head)) == ["a"]
    assert list(index.files(head ^ 1)) == []


def test_a_file_without_answers_is_nothing() -> None:
    index = AnswerIndex()
    index.add("a", heads())

    assert list(index.files(0)) == []
    assert index.nbytes == 0


def test_many_files_take_ten_bytes_an_answer_and_few_steps() -> None:
    index = AnswerIndex()
    dice = np.random.default_rng(0)
    files = {f"f{n}": dice.integers(0, 1 << 63, 128, np.uint64) for n in range(300)}
    for name, of in files.items():
        index.add(name, of)

    assert index.nbytes == 10 * len(index) == 10 * 128 * 300
    assert len(index._segments) < 10
    for name, of in files.items():
        assert all(list(index.files(int(h))) == [name] for h in of[::16])


def test_past_its_limit_it_forgets_the_oldest() -> None:
    index = AnswerIndex(limit_bytes=40_000)
    for number in range(100):
        index.add(f"f{number}", np.arange(100, dtype=np.uint64) + np.uint64(1000 * number))

    assert 20_000 <= index.nbytes <= 40_000
    assert list(index.files(0)) == []
    assert list(index.files(99_000)) == ["f99"]
