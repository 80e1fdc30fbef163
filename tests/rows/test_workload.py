"""What requests of a job share and how long they are: found, written down, and made again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.rows.workload import (
    Groups,
    Lengths,
    RequestShape,
    repeated,
    requests,
    shape_of,
)
from tests.support.samples import quick

BLOCK = 16


def stretches(groups: int, rows: int, *, common: int = 50, own: int = 64) -> list[list[list[int]]]:
    """Four places of an input, each with ``groups`` documents and ``rows`` questions about each."""
    made = []
    for place in range(4):
        here = []
        for group in range(groups):
            document = [1000 * (1 + place * groups + group) + i for i in range(own)]
            head = [*range(common), *document]
            here += [[*head, 10**6 + row, 7] for row in range(rows)]
        made.append(here)
    return made


class TestWhatPromptsShare:
    def test_what_all_begin_with_is_common(self) -> None:
        common, groups = shape_of([[[1, 2, 3, 4], [1, 2, 9, 4]], [[1, 2, 7]]])

        assert common == 2
        assert groups is None

    def test_questions_about_one_document_are_a_group_that_comes_once(self) -> None:
        common, groups = shape_of(stretches(groups=3, rows=5))

        assert common == 50
        assert groups == Groups(share=1.0, tokens=50 + 64, rows=5.0, recurring=0)

    def test_documents_that_come_everywhere_recur(self) -> None:
        once = stretches(groups=3, rows=2)[0]

        _, groups = shape_of([once, [[*p, 5] for p in once], [[*p, 6] for p in once]])

        assert groups is not None
        assert groups.recurring == 3

    def test_equal_prompts_are_no_group(self) -> None:
        prompts = [[1, 2, *range(100 + n, 140 + n)] for n in (0, 100, 200)]

        assert shape_of([prompts, prompts])[1] is None

    @pytest.mark.parametrize("groups", [None, Groups(0.5, 90, 2.5), Groups(1.0, 90, 2.0, 4)])
    def test_a_file_keeps_it(self, groups: Groups | None) -> None:
        shape = RequestShape("choices", 40, groups, 128)

        assert RequestShape.decode(shape.encode()) == shape

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "text"}', '{"x": 1, "groups": 0}'])
    def test_what_is_none_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError):
            RequestShape.decode(text)


class TestRequests:
    def test_all_share_what_is_common(self) -> None:
        made = requests(RequestShape(common_tokens=40), [(60, 5), (70, 6)])

        assert [row.tokens for row in made] == [65, 76]
        assert made[0].keys(BLOCK) == made[1].keys(BLOCK)
        assert len(made[0].keys(BLOCK)) == 2

    def test_a_group_shares_more_than_all_do(self) -> None:
        shape = RequestShape(common_tokens=32, groups=Groups(1.0, 96, 2.0))

        keys = [row.keys(BLOCK) for row in requests(shape, [(120, 5)] * 4)]

        assert keys[0] == keys[1]
        assert keys[2] == keys[3]
        assert keys[0][:2] == keys[2][:2]
        assert keys[0][2] != keys[2][2]

    def test_scores_share_nothing_and_write_nothing(self) -> None:
        (row,) = requests(RequestShape("score", common_tokens=40), [(60, 1)])

        assert row.output_tokens == 1
        assert row.keys(BLOCK) == ()

    def test_a_choice_of_several_tokens_takes_several_requests_behind_one_prompt(self) -> None:
        alone, first, second = requests(RequestShape("choices"), [(64, 2), (64, 2)], per_row=1.5)

        assert [row.output_tokens for row in (alone, first, second)] == [1, 1, 1]
        assert second.prompt_tokens == first.prompt_tokens + 1
        assert second.keys(BLOCK) == first.keys(BLOCK)
        assert len(second.keys(BLOCK)) == 4
        assert alone.keys(BLOCK) != first.keys(BLOCK)

    def test_no_prefix_is_longer_than_its_prompt(self) -> None:
        shape = RequestShape(common_tokens=40, groups=Groups(1.0, 90, 2.0))

        for row in requests(shape, [(20, 3), (50, 3), (200, 3)]):
            assert len(row.keys(1)) <= row.prompt_tokens


class TestLengths:
    @given(st.lists(st.integers(1, 4000), min_size=1, max_size=300), st.integers(1, 200))
    @quick
    def test_the_mean_is_kept(self, numbers: list[int], count: int) -> None:
        lengths = Lengths.of(numbers)
        drawn = lengths.draw(len(lengths.slices) * count, seed=1)

        assert sum(drawn) / len(drawn) == pytest.approx(lengths.mean, abs=0.6)
        wanted = sum(numbers) / len(numbers)
        assert lengths.with_mean(wanted).mean == pytest.approx(wanted)

    def test_a_histogram_gives_about_its_spread(self) -> None:
        lengths = Lengths.in_buckets({8: 50, 512: 50}, mean=200.0)

        assert lengths.mean == pytest.approx(200.0)
        assert min(lengths.slices) < 10
        assert max(lengths.slices) > 350

    def test_one_of_those_drawn_is_the_longest_and_the_mean_is_kept(self) -> None:
        numbers = [20] * 300 + [100] * 299 + [2000]
        drawn = replace(Lengths.of(numbers), longest=2000.0).draw(600, seed=1)

        assert sorted(drawn)[-2:] == pytest.approx([100, 2000], abs=10)
        assert sum(drawn) / 600 == pytest.approx(sum(numbers) / 600, rel=0.01)

    def test_nothing_known_is_one_length(self) -> None:
        assert Lengths().with_mean(12.0).draw(3, seed=0) == [12, 12, 12]


def test_rows_that_equal_ones_answered_are_as_long_as_these() -> None:
    lengths = [(5, 1), (6, 1), (5, 1), (9, 1), (6, 1)]

    assert repeated(lengths, 2) == {2, 4}
    assert repeated(lengths, 3) == {2, 4, 3}
    assert repeated(lengths, 0) == set()
