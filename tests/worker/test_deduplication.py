"""Rows in, rows to compute and results out; the engine is played by hand."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.errors import RowError, RowErrorType
from pipeline.input.units import Unit
from pipeline.job.sampling import Sampling
from pipeline.model.tokenizer import Tokenizer
from pipeline.output.columns.results import RowResult, output_columns, tally
from pipeline.prompt.answers import Answers
from pipeline.prompt.join import Prompt
from pipeline.rows.request import Scores
from pipeline.storage.local import LocalStorage
from pipeline.worker.answer_cache.lookup import AnswerLookup
from pipeline.worker.answer_cache.store import AnswerStore
from pipeline.worker.deduplication import Decision, Deduplication
from pipeline.worker.open_unit import OpenUnit, ReadyRow
from tests.support.samples import job, write_tokenizer

UNIT = OpenUnit(Unit("u", 0, 0, 100), pa.table({"id": range(100)}))
ANSWER = RowResult(completion="answer", finish_reason="stop", prompt_tokens=2, completion_tokens=1)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    tokenizer = Tokenizer(write_tokenizer(tmp_path_factory.mktemp("model")))
    return Answers(job(), tokenizer, max_model_len=100, model_hash="m")


def row(number: int, token: int = 5, **sampling: float) -> ReadyRow:
    return ReadyRow(UNIT, number, Prompt([2, token], "", Sampling(**sampling)))


@dataclass
class Engine:
    """Notes what it is to compute, and the results of all rows."""

    answers: Answers
    enabled: bool = True
    stored: AnswerLookup | None = None
    computing: list[ReadyRow] = field(default_factory=list)
    results: dict[int, RowResult] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.once = Deduplication(self.answers, enabled=self.enabled, stored=self.stored)

    def carry_out(self, decisions: list[Decision]) -> None:
        for one in decisions:
            if one.result is None:
                self.computing.append(one.row)
            else:
                self.results[one.row.row] = one.result

    def take(self, *rows: ReadyRow) -> list[int]:
        for one in rows:
            self.carry_out(self.once.take(one))
        return [r.row for r in self.computing]

    def finish(self, result: RowResult = ANSWER) -> None:
        self.carry_out(self.once.finished(self.computing.pop(0), result))


def test_rows_that_ask_the_same_are_computed_once(answers: Answers) -> None:
    engine = Engine(answers)
    assert engine.take(row(0), row(1), row(2, token=6), row(3)) == [0, 2]
    engine.finish()

    assert sorted(engine.results) == [0, 1, 3]
    assert {r.completion for r in engine.results.values()} == {"answer"}
    assert [engine.results[n].duplicate for n in (0, 1, 3)] == [False, True, True]


def test_a_later_row_has_its_answer_at_once(answers: Answers) -> None:
    engine = Engine(answers)
    engine.take(row(0))
    engine.finish()

    assert engine.take(row(1)) == []
    assert engine.results[1] == replace(engine.results[0], duplicate=True)


def test_an_answer_by_chance_is_computed_for_every_row(answers: Answers) -> None:
    rows = [row(n, temperature=1.0) for n in range(2)]
    assert Engine(answers).take(*rows) == [0, 1]


def test_switched_off_every_row_is_computed(answers: Answers) -> None:
    engine = Engine(answers, enabled=False)
    assert engine.take(row(0), row(1)) == [0, 1]
    engine.finish()

    assert engine.results == {0: ANSWER}


def test_an_error_that_repeats_is_shared(answers: Answers) -> None:
    engine = Engine(answers)
    engine.take(row(0), row(1))
    error = RowError(RowErrorType.SCHEMA_NOT_MET, "no", 1)
    engine.finish(replace(ANSWER, error=error))

    assert [engine.results[n].error for n in (0, 1)] == [error, error]


def test_a_failure_of_the_engine_is_the_first_rows_alone(answers: Answers) -> None:
    engine = Engine(answers)
    engine.take(row(0), row(1), row(2))
    engine.finish(RowResult(error=RowError(RowErrorType.ENGINE_FAILURE, "died", 1)))
    assert list(engine.results) == [0]
    assert [r.row for r in engine.computing] == [1]
    engine.finish()

    assert [engine.results[n].error for n in (1, 2)] == [None, None]
    assert engine.take(row(3)) == []


def test_rows_like_one_that_took_too_long_are_tried_themselves_at_once(answers: Answers) -> None:
    engine = Engine(answers)
    engine.take(row(0), row(1), row(2))
    late = RowResult(error=RowError(RowErrorType.TIMEOUT, "not finished", 1))
    engine.finish(late)
    assert engine.results == {0: late}
    assert [r.row for r in engine.computing] == [1, 2]
    engine.finish()
    engine.finish(late)

    assert [engine.results[n].error for n in (1, 2)] == [None, late.error]
    assert engine.take(row(3)) == [3]


def test_scores_are_shared_within_a_worker(answers: Answers) -> None:
    scores = Scores(np.ones(1, np.int32), np.ones(1, np.float32), np.ones((1, 0)), np.ones((1, 0)))
    engine = Engine(answers)
    engine.take(row(0))
    engine.finish(RowResult(scores=scores))
    engine.take(row(1))

    assert engine.results[1].scores is scores


def test_duplicates_are_counted(answers: Answers) -> None:
    engine = Engine(answers)
    engine.take(row(0), row(1), row(2))
    engine.finish()
    rows = pa.table({"text": ["x"] * 3})

    counted = tally(rows, list(engine.results.values()), output_columns(job(), rows.schema))
    assert (counted.rows, counted.duplicates) == (3, 2)


class TestStored:
    @pytest.fixture
    def store(self, tmp_path: Path) -> AnswerStore:
        return AnswerStore(LocalStorage(tmp_path), "answers")

    @pytest.fixture
    def stage(self, store: AnswerStore):
        stage = AnswerLookup(store)
        yield stage
        stage.stop()

    def polled(self, engine: Engine) -> None:
        for _ in range(1000):
            engine.carry_out(engine.once.poll())
            if not engine.once.waiting:
                return
            time.sleep(0.01)
        pytest.fail("the store did not answer")

    def test_what_another_worker_kept_is_not_computed(
        self, answers: Answers, store: AnswerStore, stage: AnswerLookup
    ) -> None:
        key = answers.key(row(0).prompt)
        store.keep("unit", [replace(ANSWER, key=key)])
        engine = Engine(answers, stored=stage)
        assert engine.take(row(0), row(1), row(2, token=6)) == [2]
        stage.stage.start()
        self.polled(engine)

        assert [engine.results[n] for n in (0, 1)] == [replace(ANSWER, key=key, duplicate=True)] * 2
        assert engine.take(row(3)) == [2]
        assert engine.results[3].completion == "answer"

    def test_an_answer_that_is_not_there_after_all_is_computed(
        self, answers: Answers, store: AnswerStore, stage: AnswerLookup, tmp_path: Path
    ) -> None:
        store.keep("unit", [replace(ANSWER, key=answers.key(row(0).prompt))])
        for path in (tmp_path / "answers").iterdir():
            path.unlink()
        engine = Engine(answers, stored=stage)
        assert engine.take(row(0), row(1)) == []
        stage.stage.start()
        self.polled(engine)
        assert [r.row for r in engine.computing] == [0]
        engine.finish()

        assert [engine.results[n].duplicate for n in (0, 1)] == [False, True]

    def test_a_slow_store_is_not_asked_for_everything(
        self, answers: Answers, store: AnswerStore, stage: AnswerLookup
    ) -> None:
        rows = [row(n, token=n) for n in range(90)]
        store.keep("unit", [replace(ANSWER, key=answers.key(r.prompt)) for r in rows])
        engine = Engine(answers, stored=stage)

        assert 0 < len(engine.take(*rows)) < 90
