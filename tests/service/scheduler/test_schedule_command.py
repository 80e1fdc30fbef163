"""`rackmill schedule` as users run them, with the simulated engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest
from pydantic import SecretStr

from pipeline.service.scheduler.notify import signature
from tests.support.datasets import write_input
from tests.support.processes import Finished, Launcher, Started
from tests.support.ray_head import SharedRay
from tests.support.samples import write_model

_JOB = """\
name: nightly
model: models/tiny
input: {path: rows}
prompt: "{text}"
output: {path: out, keep: [id]}
engine: {kind: simulated}
schedule: {cron: "%s", timezone: Europe/Berlin%s}
"""


class Schedules:
    """A folder with a job, and a file of schedules."""

    def __init__(self, folder: Path, launcher: Launcher, ask: Callable[..., Finished]) -> None:
        self.folder, self._launcher, self._ask = folder, launcher, ask
        write_input(folder / "rows", 40)
        write_model(folder / "models/tiny")
        self.job("0 2 * * *")

    def job(self, cron: str, more: str = "") -> None:
        (self.folder / "job.yaml").write_text(_JOB % (cron, more))

    def start(self, *arguments: str, **environment: str) -> Started:
        state = ("--state", "state/schedules.db")
        return self._launcher.start(*arguments, *state, cwd=self.folder, **environment)

    def ask(self, *arguments: str) -> Finished:
        """In this process, where no Ray can be started."""
        return self._ask(*arguments, "--state", "state/schedules.db")

    def verify(self) -> Finished:
        return self._ask("verify", "out", "--json")

    def run(self, *arguments: str) -> Finished:
        return self.start(*arguments).wait()

    def history(self) -> list[dict[str, object]]:
        told = self.ask("schedule", "history", "nightly", "--json").json
        runs: list[dict[str, object]] = told["runs"]
        return runs

    def ids(self) -> list[int]:
        return sorted(pandas.read_parquet(self.folder / "out").id.tolist())


@pytest.fixture
def schedules(tmp_path: Path, launcher: Launcher, ask: Callable[..., Finished]) -> Schedules:
    return Schedules(tmp_path, launcher, ask)


def test_a_cron_line_that_is_none_is_refused_before_anything_is_kept(schedules: Schedules) -> None:
    schedules.job("0 25 * * *")
    refused = schedules.ask("schedule", "apply", "job.yaml")
    assert refused.code == 2
    assert "job.yaml, line 7: schedule" in refused.err
    assert "hour" in refused.err


def test_a_job_without_a_schedule_is_told_how_to_have_one(schedules: Schedules) -> None:
    refused = schedules.ask("schedule", "apply", "job.yaml", "--set", "schedule=null")
    assert refused.code == 2
    assert "has no schedule" in refused.err


def test_applying_shows_the_next_five_times(schedules: Schedules) -> None:
    told = schedules.ask("schedule", "apply", "job.yaml", "--json").json
    [applied] = told["applied"]
    assert applied["new"]
    assert len(applied["next"]) == 5
    assert all("T02:00:00+0" in at for at in applied["next"])


def test_two_schedules_cannot_share_an_output(schedules: Schedules) -> None:
    schedules.ask("schedule", "apply", "job.yaml")
    refused = schedules.ask("schedule", "apply", "job.yaml", "--set", "name=other")
    assert refused.code == 2
    assert "belongs to the schedule nightly" in refused.err


def test_a_schedule_that_is_not_there_is_named(schedules: Schedules) -> None:
    schedules.ask("schedule", "apply", "job.yaml")
    refused = schedules.ask("schedule", "history", "nigthly")
    assert refused.code == 2
    assert "did you mean nightly?" in refused.err


class TestLogs:
    def test_before_anything_ran_it_is_said_what_writes_one(self, schedules: Schedules) -> None:
        schedules.ask("schedule", "apply", "job.yaml")

        of_scheduler = schedules.ask("schedule", "logs")
        assert of_scheduler.code == 2
        assert "schedules.log" in of_scheduler.err
        assert "rackmill schedule serve" in of_scheduler.err
        of_run = schedules.ask("schedule", "logs", "nightly")
        assert of_run.code == 2
        assert "rackmill schedule run-now nightly" in of_run.err
        assert "did you mean nightly?" in schedules.ask("schedule", "logs", "nigthly").err

    def test_the_scheduler_s_own_and_the_last_run_s_are_printed(self, schedules: Schedules) -> None:
        schedules.ask("schedule", "apply", "job.yaml")
        state = schedules.folder / "state"
        (state / "schedules.log.1").write_text("older\n")
        (state / "schedules.log").write_text("newer \x1b[31m\n")
        (state / "logs/nightly").mkdir(parents=True)
        for day in ("02", "03"):
            (state / f"logs/nightly/2026-01-{day}T02-00-00-000000.log").write_text(f"day {day}\n")

        told = schedules.ask("schedule", "logs")
        assert (told.code, "\x1b" in told.out) == (0, False)
        assert [line.split()[0] for line in told.out.splitlines()] == ["older", "newer"]
        assert str(state / "schedules.log") in told.err
        assert schedules.ask("schedule", "logs", "nightly").out == "day 03\n"


@pytest.mark.ray
def test_run_now_adds_what_is_new_and_waits_for_the_end(schedules: Schedules) -> None:
    schedules.ask("schedule", "apply", "job.yaml")
    first = schedules.run("schedule", "run-now", "nightly", "--json")
    assert first.json["summary"]["rows"] == 40
    write_input(schedules.folder / "rows", 40, 25)
    second = schedules.run("schedule", "run-now", "nightly", "--json")

    assert "summary" in second.json, second.out + second.err
    assert second.json["summary"]["rows"] == 25
    assert schedules.ids() == list(range(65))
    assert [run["rows"] for run in schedules.verify().json["runs"]] == [40, 25]
    assert [run["state"] for run in schedules.history()] == ["succeeded", "succeeded"]


@pytest.mark.ray
def test_a_scheduler_that_is_killed_in_a_run_goes_on_with_it_and_tells_of_it(
    schedules: Schedules, hook, shared_ray: SharedRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook.codes = [503, 204]
    monkeypatch.setenv("RACKMILL_WEBHOOK_SECRET", "s3cret")
    schedules.job("* * * * *", f', notify: {{webhook: "{hook.address}"}}, suspend: true')
    schedules.ask("schedule", "apply", "job.yaml")
    slow = ("--set", "engine.simulated.step_seconds=0.3", "--set", "engine.max_num_seqs=4")
    schedules.ask("schedule", "apply", "job.yaml", *slow, "--set", "schedule.suspend=false")

    serve = ("schedule", "serve", "--address", shared_ray.address)
    service = schedules.start(*serve, **shared_ray.environment)
    begun = schedules.folder.glob
    service.wait_until(lambda: any(begun("out/_runs/*/_rackmill/runs/*")), "a run")
    service.kill_driver()
    service = schedules.start(*serve, **shared_ray.environment)
    service.wait_until(lambda: len(hook.taken) >= 2, "the end of a run")
    service.process.terminate()
    assert service.wait().code == 0

    assert "nightly: run of" in schedules.ask("schedule", "logs").out
    assert schedules.ids() == list(range(40))
    done = [run for run in schedules.history() if run["state"] == "succeeded" and run["result"]]
    assert sum((run["result"]["summary"] or {"rows": 0})["rows"] for run in done) == 40
    sign, body = hook.taken[1]
    assert sign == signature(body, SecretStr("s3cret"))
    assert json.loads(body)["schedule"] == "nightly"
