"""Every row has a seed of its own, which is the same wherever and whenever it is computed."""

from __future__ import annotations

import pytest

from pipeline.job.sampling import Sampling
from pipeline.model.tokenizer import Tokenizer
from pipeline.prompt.builder import PromptBuilder
from pipeline.prompt.join import Prompt
from pipeline.prompt.seed import row_seed
from tests.support.samples import job, write_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer(write_tokenizer(tmp_path_factory.mktemp("tokenizer")))


def test_a_seed_is_what_it_was_in_every_version() -> None:
    assert row_seed(7, ("0/a.parquet", 3)) == 454985531459887014


def test_seeds_of_rows_files_and_jobs_are_all_different() -> None:
    files = ("0/a", "0/b", "1/a")
    made = {row_seed(s, (f, r)) for s in range(10) for f in files for r in range(100)}

    assert len(made) == 3000
    assert all(0 <= seed < 1 << 63 for seed in made)


class TestRows:
    def built(self, tokenizer: Tokenizer, row: dict[str, object], **sampling: object) -> Prompt:
        builder = PromptBuilder(job(prompt="{text}", sampling=sampling), tokenizer)
        [prompt] = builder.build([{"text": "a"} | row], [("f", 5)])
        assert isinstance(prompt, Prompt)
        return prompt

    def test_a_row_has_a_seed_of_its_own(self, tokenizer: Tokenizer) -> None:
        made = self.built(tokenizer, {}, temperature=1.0, seed=7)
        assert made.sampling == Sampling(temperature=1.0, seed=row_seed(7, ("f", 5)))
        assert made.own_seed

    def test_without_a_seed_it_has_none(self, tokenizer: Tokenizer) -> None:
        made = self.built(tokenizer, {}, temperature=1.0)
        assert made.sampling.seed is None

    def test_without_a_temperature_equal_rows_stay_equal(self, tokenizer: Tokenizer) -> None:
        assert not self.built(tokenizer, {}, seed=7).own_seed

    def test_a_row_with_a_temperature_of_its_own_is_drawn(self, tokenizer: Tokenizer) -> None:
        made = self.built(tokenizer, {"sampling_params": {"temperature": 0.5}}, seed=7)
        assert made.sampling.seed == row_seed(7, ("f", 5))

    @pytest.mark.parametrize("seed", [7, 8])
    def test_a_seed_that_a_row_brings_is_used_as_it_is(
        self, tokenizer: Tokenizer, seed: int
    ) -> None:
        row = {"sampling_params": {"seed": seed}}
        made = self.built(tokenizer, row, temperature=1.0, seed=7)
        assert made.sampling.seed == seed
        assert not made.own_seed
