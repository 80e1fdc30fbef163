"""When labels are trusted: again, after a kill, never beside a run or before its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.driver.background.heartbeat import Heartbeat
from pipeline.driver.conclude import RunOutcome, conclude
from pipeline.driver.plan.plan import check_input, make_plan
from pipeline.driver.stop.stop import Stop
from pipeline.driver.trust import gather
from pipeline.driver.trust.settings import TrustOptions
from pipeline.driver.trust.trust import trust
from pipeline.errors import AlreadyRunning, Stopped, UsageError
from pipeline.output.dataset import Dataset
from pipeline.output.runs.run_log import new_run
from pipeline.output.verify.dataset import verify
from tests.support.datasets import begin, conclude_now
from tests.support.trusted import (
    ROWS,
    bytes_of,
    copy_of,
    gold_file,
    job_over,
    table_of,
    the_job,
    world,
    write_rows,
)


class TestAgain:
    def test_a_run_again_changes_nothing(self, made: Path, tmp_path: Path) -> None:
        dataset = copy_of(made, tmp_path)
        before = bytes_of(dataset)
        plan = make_plan(check_input(the_job(made, dataset)), fetch=False)
        assert plan.missing == ()
        conclude(plan, dataset, RunOutcome(), 0.0)

        after = bytes_of(dataset)
        assert {name for name in before if before[name] != after[name]} <= {
            "_rackmill/manifest.json"
        }

    def test_the_same_right_answers_a_second_time_change_no_byte(
        self, made: Path, tmp_path: Path
    ) -> None:
        dataset = copy_of(made, tmp_path)
        before = bytes_of(dataset)

        assert trust(dataset.storage.address()).files_changed == 0
        assert bytes_of(dataset) == before

    def test_what_was_asked_for_by_name_holds_from_then_on(self, raw: Path, tmp_path: Path) -> None:
        dataset = copy_of(raw, tmp_path)
        asked = TrustOptions(gold=(gold_file(tmp_path),), error=0.1)
        trust(dataset.storage.address(), asked)
        before = table_of(dataset)

        assert trust(dataset.storage.address()).files_changed == 0
        plan, dataset = begin(the_job(raw, dataset, None))  # a run of the job as its file says it
        conclude_now(plan, dataset)
        assert table_of(dataset).equals(before)
        assert trust(dataset.storage.address()).files_changed == 0

    def test_probabilities_that_do_not_fit_into_memory_lie_in_a_file(
        self, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gather, "_IN_MEMORY_BYTES", 0)
        dataset = copy_of(made, tmp_path)

        assert trust(dataset.storage.address()).files_changed == 0


@pytest.fixture(scope="module")
def undisturbed(
    raw: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrustOptions, dict[str, bytes]]:
    """What a call with these options comes to that nobody kills."""
    folder = tmp_path_factory.mktemp("undisturbed")
    options = TrustOptions(gold=(gold_file(folder),))
    dataset = copy_of(raw, folder)
    trust(dataset.storage.address(), options)
    return options, bytes_of(dataset)


class TestKilled:
    @pytest.mark.parametrize("step", ["recommit", "_publish", "finish", "keep_job"])
    @pytest.mark.parametrize("after", [0, 1, 20])
    def test_at_any_moment_the_same_call_comes_to_the_same_end(
        self,
        raw: Path,
        undisturbed: tuple[TrustOptions, dict[str, bytes]],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        step: str,
        after: int,
    ) -> None:
        options, meant = undisturbed
        dataset = copy_of(raw, tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(Dataset, step, _killed(getattr(Dataset, step), after))
            try:
                trust(dataset.storage.address(), options)
            except _Killed:
                assert verify(dataset.storage).faults == []
        assert len(table_of(dataset)) == ROWS  # readers see whole files, of then or now

        trust(dataset.storage.address(), options)

        found = bytes_of(dataset)
        for name, content in meant.items():
            if name.endswith((".parquet", "trust.json")):
                assert found[name] == content, name
        verified = verify(dataset.storage)
        assert verified.faults == verified.notes == []

    def test_asked_to_stop_it_stops_between_two_files(self, raw: Path, tmp_path: Path) -> None:
        dataset = copy_of(raw, tmp_path)
        stop = Stop()
        stop.ask()

        with pytest.raises(Stopped, match="goes on from there"):
            trust(dataset.storage.address(), TrustOptions(gold=(gold_file(tmp_path),)), stop=stop)
        assert verify(dataset.storage).faults == []


class _Killed(BaseException):
    """Nothing is cleaned up after it."""


def _killed(real: Callable[..., Any], after: int) -> Callable[..., Any]:
    calls = 0

    def one(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            raise _Killed
        return real(*args, **kwargs)

    return one


class TestRefused:
    def test_while_a_run_works_there(self, made: Path, tmp_path: Path) -> None:
        dataset = copy_of(made, tmp_path)

        with (
            Heartbeat(dataset.storage, None, Stop(), new_run(), 3),
            pytest.raises(AlreadyRunning, match="another run works"),
        ):
            trust(dataset.storage.address(), TrustOptions(error=0.2))

    def test_an_output_that_is_not_finished(self, tmp_path: Path) -> None:
        truth, _ = world(40)
        write_rows(tmp_path, truth, lambda row: True)
        _, dataset = begin(job_over(tmp_path))

        with pytest.raises(UsageError, match="is not finished"):
            trust(dataset.storage.address())
