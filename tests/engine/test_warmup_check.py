"""An engine proves that it works before a row is blamed for its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.budget.kv_layout import KvLayout
from pipeline.engine.simulated.engine import SimulatedEngine
from pipeline.engine.warmup_check import check_warm_engine
from pipeline.errors import EngineFailed, EngineOutOfMemory
from pipeline.job.engine import RehearsedFaults
from pipeline.job.engine import SimulatedEngineSettings as Settings
from pipeline.model.tokenizer import Tokenizer
from tests.support.samples import GEMMA_270M, write_tokenizer


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return Tokenizer(write_tokenizer(tmp_path))


def engine(tokenizer: Tokenizer, **faults: str | int) -> SimulatedEngine:
    settings = Settings(faults=RehearsedFaults(**faults))  # type: ignore[arg-type]
    layout = KvLayout(GEMMA_270M, 16, 2048)
    return SimulatedEngine(settings, layout, max_model_len=1024, decode=tokenizer.decode)


def test_an_engine_that_works_is_left_as_it_was(tokenizer: Tokenizer) -> None:
    made = engine(tokenizer, fail_on="poison")
    check_warm_engine(made, tokenizer)

    assert (made.stats.running, made.stats.waiting) == (0, 0)


def test_one_that_fails_on_anything_is_no_rows_fault(tokenizer: Tokenizer) -> None:
    with pytest.raises(EngineFailed, match="before any row"):
        check_warm_engine(engine(tokenizer, fail_on="wo"), tokenizer)


def test_one_that_cannot_get_memory_for_anything_says_so(tokenizer: Tokenizer) -> None:
    with pytest.raises(EngineOutOfMemory):
        engine(tokenizer, load_out_of_memory_above=4)
