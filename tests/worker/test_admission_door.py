"""An admission policy from outside: one line registers it, and the same class decides in the
simulator and beside an engine. So do those that there are."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.dataset as ds
import pytest

from pipeline import UsageError
from pipeline.admission.demand import Demand
from pipeline.admission.policies.pass_through import PassThrough
from pipeline.engine.simulated.engine import SimulatedEngine
from pipeline.job.fingerprint import fingerprint_parts
from pipeline.job.registries.admission_policies import ADMISSION_POLICIES, AdmissionPolicy
from pipeline.rows.request import Completion
from pipeline.simulate.card import run_card
from pipeline.simulate.policies import check_policy
from tests.chaos.in_process import run_here
from tests.simulate.test_simulate import card, trace
from tests.support.datasets import job_in, write_input

ROWS = 40


class Backwards(PassThrough):
    """The newest first, ``most`` at once."""

    made: list[Backwards] = []  # noqa: RUF012 -- for the test to look at

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self.handed: list[int] = []
        self.made.append(self)

    def next(self, *, inside: int, waiting: int, ending: bool) -> Demand | None:
        if not self._waiting or inside >= self._most:
            return None
        demand = self._waiting.pop()
        self.handed.append(demand.id)
        return demand


@pytest.fixture
def backwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Backwards]]:
    class Module(ModuleType):
        def make(self, limits: object, known: object, number: int) -> Backwards:
            return Backwards(number)

    monkeypatch.setitem(sys.modules, "backwards_policy", Module("backwards_policy"))
    ADMISSION_POLICIES.add(AdmissionPolicy("backwards", "backwards_policy", numbered=True))
    yield Backwards.made
    Backwards.made.clear()
    ADMISSION_POLICIES.remove("backwards")


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many requests the simulated engine has at each of its steps."""
    counts: list[int] = []
    step = SimulatedEngine.step

    def counted(self: SimulatedEngine) -> list[Completion]:
        counts.append(len(self._model.running) + len(self._model.waiting))
        return step(self)

    monkeypatch.setattr(SimulatedEngine, "step", counted)
    return counts


def answered(folder: Path, admission: str, **changes: Any) -> list[Any]:
    """The rows of a whole run under that policy, four at once in the engine."""
    write_input(folder / "rows", ROWS)
    engine = {"kind": "simulated", "admission": admission, "max_num_seqs": 4}
    run_here(job_in(folder, engine=engine, **changes))
    rows = ds.dataset(folder / "out").to_table().to_pydict()
    assert rows["error"] == [None] * ROWS
    ids: list[Any] = rows["id"]
    return ids


def test_a_policy_that_is_registered_decides_beside_an_engine(
    tmp_path: Path, backwards: list[Backwards], inside: list[int]
) -> None:
    assert answered(tmp_path, "backwards:3") == list(range(ROWS))

    [policy] = backwards
    assert sorted(policy.handed) != policy.handed
    assert len(policy.handed) == ROWS
    assert max(inside) == 3


def test_it_decides_in_the_simulator(backwards: list[Backwards]) -> None:
    check_policy("backwards:3")
    simulated = card("backwards:3")
    ended = run_card(simulated, trace(60))

    [policy] = backwards
    assert policy.handed == list(range(60))[::-1]
    assert sorted(row.id for row in ended) == list(range(60))


@pytest.mark.parametrize(
    ("name", "most"), [("packed", 4), ("engine", 8), ("static:3", 3), ("worst-case", 4)]
)
def test_each_of_ours_answers_every_row(
    tmp_path: Path, inside: list[int], name: str, most: int
) -> None:
    """An engine with its own admission has as many waiting as may run, and no more."""
    assert answered(tmp_path, name) == list(range(ROWS))
    assert max(inside) == most


@pytest.mark.parametrize("name", ["packed", "engine", "static:3", "worst-case"])
def test_each_of_ours_answers_rows_that_take_several_requests(tmp_path: Path, name: str) -> None:
    labels = [f"{letter} label" for letter in "abc"]
    assert answered(tmp_path, name, label={"choices": labels}) == list(range(ROWS))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("packd", "'packed' or 'engine' or 'static:K' or 'worst-case', not 'packd'; did you mean"),
        ("oracle", "not 'oracle'"),
        ("packed:3", "not 'packed:3'"),
        ("static", "write it like static:12"),
        ("static:0", "write it like static:12"),
        ("static:x", "write it like static:12"),
        ("", "not ''"),
    ],
)
def test_a_job_that_names_no_policy_is_refused_in_words(
    tmp_path: Path, name: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        job_in(tmp_path, engine={"admission": name})


def test_it_is_no_argument_of_vllm_and_no_part_of_what_a_job_is(tmp_path: Path) -> None:
    packed, engine = (job_in(tmp_path, engine={"admission": a}) for a in ("packed", "engine"))

    assert "admission" not in engine.engine.vllm_arguments()
    assert fingerprint_parts(packed, model_hash="m", input_hash="i") == fingerprint_parts(
        engine, model_hash="m", input_hash="i"
    )
