"""A kind of engine from outside: one line registers it, and it does whole jobs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.dataset as ds
import pytest

from pipeline import UsageError
from pipeline.engine.protocol import EngineFacts, EngineStats
from pipeline.job.job import Job
from pipeline.job.registries.engine_kinds import ENGINE_KINDS, EngineKind
from pipeline.rows.request import Completion, Request
from tests.chaos.in_process import run_here
from tests.support.datasets import job_in, write_input


class Echo:
    """Answers with how long the prompt is, all requests in one step."""

    def __init__(self) -> None:
        self.facts = EngineFacts("echo", "1", "nothing", 4096, 8, 512, 16, 4096, 0)
        self.stats = EngineStats()
        self._waiting: list[Request] = []

    def add(self, request: Request) -> None:
        self._waiting.append(request)

    def step(self) -> list[Completion]:
        done, self._waiting = self._waiting, []
        self.stats.steps += 1
        self.stats.sampled = [request.id for request in done]
        return [Completion(r.id, f"{len(r.prompt_ids)} tokens", 1, "stop") for r in done]

    def abort(self, request_ids: Iterable[int]) -> None:
        gone = set(request_ids)
        self._waiting = [request for request in self._waiting if request.id not in gone]

    def reset(self) -> None:
        self._waiting.clear()

    def close(self) -> None:
        pass


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    class Module(ModuleType):
        def load(self, *_: Any) -> Echo:
            return Echo()

        def check_answer_shape(self, job: Job) -> None:
            if job.label is not None:
                raise UsageError("an echo has no shape")

    monkeypatch.setitem(sys.modules, "echo_engine", Module("echo_engine"))
    ENGINE_KINDS.add(EngineKind("echo", "echo_engine", computes=False))
    yield
    ENGINE_KINDS.remove("echo")


def labelled(folder: Path, **changes: Any) -> Mapping[str, Any]:
    write_input(folder / "rows", 40)
    run_here(job_in(folder, engine={"kind": "echo"}, **changes))
    rows: Mapping[str, Any] = ds.dataset(folder / "out").to_table().to_pydict()
    return rows


@pytest.mark.usefixtures("echo")
def test_a_kind_that_is_registered_does_a_job(tmp_path: Path) -> None:
    rows = labelled(tmp_path)

    assert rows["id"] == list(range(40))
    assert all(text.endswith(" tokens") for text in rows["completion"])


@pytest.mark.usefixtures("echo")
def test_it_is_asked_whether_it_can_hold_an_answers_shape(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="an echo has no shape"):
        labelled(tmp_path, label={"regex": "a|b"})


def test_a_kind_that_nobody_registered_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'vllm', .*, not 'simulatd'; did you mean simulated"):
        job_in(tmp_path, engine={"kind": "simulatd"})
