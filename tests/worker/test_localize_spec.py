"""A job on another machine than where it was started: what has to be there, and what if not."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import MachineUnfit
from pipeline.job.engine import EngineSettings
from pipeline.model.folder import ModelFolder
from pipeline.output.commit.records import MANIFEST
from pipeline.worker.coordination.messages import WorkerSpec
from pipeline.worker.localize_spec import localize_spec
from tests.chaos import in_process
from tests.support.next_door import worker_spec


@pytest.fixture
def spec(tmp_path: Path) -> WorkerSpec:
    """Of a small job whose output is begun."""
    from pipeline import plan
    from pipeline.driver.run import claim
    from pipeline.storage.base import open_storage

    in_process.prepare(tmp_path)
    made = plan(in_process.job(tmp_path, str(tmp_path / "out")))
    claim(made, open_storage(made.job.output.path), fresh=False)
    return worker_spec(made)


def computing(spec: WorkerSpec) -> WorkerSpec:
    """The same for a real engine, to which it matters which model it has."""
    return replace(spec, job=spec.job.model_copy(update={"engine": EngineSettings(kind="vllm")}))


def test_where_everything_is_there_nothing_changes(spec: WorkerSpec) -> None:
    assert localize_spec(spec, print) is spec


def test_an_output_folder_that_is_not_shared_is_told_with_its_name(spec: WorkerSpec) -> None:
    manifest = Path(spec.job.output.path) / MANIFEST
    manifest.unlink()

    with pytest.raises(MachineUnfit, match=f"does not see {manifest}"):
        localize_spec(spec, print)


def test_an_input_folder_that_is_not_shared_is_told_with_its_name(spec: WorkerSpec) -> None:
    shutil.rmtree(Path(spec.shards[0].path).parent)

    with pytest.raises(MachineUnfit, match=f"does not see {spec.shards[0].path}"):
        localize_spec(spec, print)


def test_a_model_is_looked_for_in_this_machines_own_store(
    spec: WorkerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = spec.model
    away = replace(computing(spec), model=ModelFolder(here.name, Path("/nowhere")))
    monkeypatch.setattr("pipeline.worker.localize_spec.resolve", lambda reference, say: here)
    monkeypatch.setattr(ModelFolder, "hash", property(lambda self: "the same"))

    assert localize_spec(away, print).model is here


def test_another_model_of_the_same_name_is_refused(
    spec: WorkerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = spec.model
    away = replace(computing(spec), model=ModelFolder(here.name, Path("/nowhere")))
    monkeypatch.setattr("pipeline.worker.localize_spec.resolve", lambda reference, say: here)
    monkeypatch.setattr(ModelFolder, "hash", property(lambda self: str(self.path)))

    with pytest.raises(MachineUnfit, match="has another"):
        localize_spec(away, print)


def test_a_model_that_cannot_be_had_is_said_with_the_reason(spec: WorkerSpec) -> None:
    shutil.rmtree(spec.model.path)

    with pytest.raises(MachineUnfit, match="cannot get the model: model: no such folder"):
        localize_spec(spec, print)
