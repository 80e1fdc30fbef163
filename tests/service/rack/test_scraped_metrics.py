"""The metrics of a rack, scraped from the port that Prometheus is told of."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.service.rack.ray_node import METRICS_PORT
from pipeline.worker.metrics.metrics import METRICS, Kind, Metric
from tests.service.rack.hosts import Host, Network
from tests.support.fake_cards import RTX_4090, FakeCards, FakeDriver
from tests.support.samples import write_model

pytestmark = pytest.mark.ray
_ROWS, _BROKEN, _LONG = (150, 150), 7, 160
_BLOCKS = 2000
_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.5
_END = "--- so far ---"
# Ray usually tells every ten seconds
_TALKATIVE = {"RAY_metrics_report_interval_ms": "1000"}
_CARD = replace(
    RTX_4090, watts=300.0, temperature=88, throttle=["HwThermalSlowdown"], energy_since=0.0
)

Key = tuple[str, str | None]  # a metric's name in Prometheus, the value of its own label
Scrape = dict[str, dict[Key, float]]  # by worker


# one process that asks again and again: to start it takes many times as long as to ask; and of
# what Ray says of itself, which is most of it and takes long to parse, nothing is needed
_ASK = f"""
import time, httpx
with httpx.Client(timeout=10) as client:
    while True:
        time.sleep({_PAUSE_SECONDS})
        try:
            text = client.get("http://127.0.0.1:{METRICS_PORT}/metrics").text
        except httpx.HTTPError:
            continue  # the rack is not up yet
        ours = [line for line in text.splitlines() if "rackmill_" in line]
        print(*ours, {_END!r}, sep="\\n", flush=True)
"""


class Rack:
    """One host with two cards, and what was seen of its metrics."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._asking = host.python(_ASK)
        self.kinds: dict[str, str] = {}
        self.labels: dict[str, dict[str, str]] = {}  # by worker, those that all metrics have
        self.scrapes: list[Scrape] = []
        self.shown = ""  # by `rack show`, before any job
        self.shown_json: Any = None

    @property
    def last(self) -> Scrape:
        return self.scrapes[-1]

    def scrape(self) -> None:
        """Look at what came since the last time."""
        assert self._asking.process.poll() is None, self._asking.output
        for text in self._asking.out.split(_END)[:-1][len(self.scrapes) :]:
            self._add(text)
        time.sleep(_PAUSE_SECONDS)

    def close(self) -> None:
        self._asking.kill_all()

    def _add(self, text: str) -> None:
        known = {metric.exported: metric for metric in METRICS}
        found: Scrape = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name not in known:
                    continue
                self.kinds[sample.name] = family.type
                own = known[sample.name].label
                worker = sample.labels["worker"]
                value = sample.labels[own] if own is not None else None
                self.labels[worker] = {k: sample.labels[k] for k in ("job", "card", "host")}
                found.setdefault(worker, {})[sample.name, value] = sample.value
        self.scrapes.append(found)

    def total(self, metric: Metric, value: str | None = None) -> float:
        """Of all workers, as last seen."""
        return sum(worker.get((metric.exported, value), 0) for worker in self.last.values())


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rack, pa.Table]]:
    """A rack that was scraped while a job ran and until all of it was counted, and the job's
    output: one of its rows is null, one too long."""
    folder = tmp_path_factory.mktemp("measured")
    _write_job(folder)
    driver = FakeCards(folder / "driver.json", FakeDriver([_CARD, _CARD]))
    with Network(folder, _TALKATIVE | driver.environment) as net:
        host = net.host("only")
        rack = Rack(host)
        start = ("rack", "start", "--head", "--host", host.address)
        assert host.rackmill(*start, cards="2x rtx4090").code == 0
        rack.shown = host.rackmill("rack", "show").out
        rack.shown_json = host.rackmill("rack", "show", "--json").json
        job = str(folder / "job.yaml")
        run = host.start("run", job, "--address", f"{host.address}:6379")
        while run.process.poll() is None:
            rack.scrape()
        assert run.wait().code == 3, run.output  # with error rows
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not _ended(rack):
            assert time.monotonic() < deadline, rack.last
            rack.scrape()
        rack.close()
        yield rack, pq.read_table(folder / "out")


def _write_job(folder: Path) -> None:
    model = write_model(folder / "model")
    texts: list[str | None] = [f"text {n}" for n in range(sum(_ROWS))]
    texts[_BROKEN], texts[_LONG] = None, "long " * 400
    for number, rows in enumerate(_ROWS):
        part = texts[number * rows : (number + 1) * rows]
        folder.joinpath("rows").mkdir(exist_ok=True)
        pq.write_table(pa.table({"text": part}), folder / f"rows/{number}.parquet")
    (folder / "job.yaml").write_text(
        f"""\
name: measured
model: {model}
input: {{path: {folder}/rows/*.parquet}}
prompt: "{{text}}"
sampling: {{max_tokens: 32}}
output: {{path: {folder}/out}}
engine:
  kind: simulated
  max_num_seqs: 16
  max_model_len: 128
  simulated: {{step_seconds: 0.05, num_blocks: {_BLOCKS}}}
"""
    )


def _ended(rack: Rack) -> bool:
    """Every row is counted, and nobody claims to be at work any more."""
    rows = rack.total(metric("rackmill_rows_total"), "ok")
    rows += rack.total(metric("rackmill_rows_total"), "failed")
    at_work = [
        rack.total(one, value)
        for one in METRICS
        if one.kind is Kind.GAUGE
        for value in one.values or (None,)
    ]
    return rows >= sum(_ROWS) and not any(at_work)


def metric(name: str) -> Metric:
    return next(one for one in METRICS if one.name == name)


def largest(rack: Rack, name: str, value: str | None = None) -> float:
    """Of one worker, as ever seen."""
    key = metric(name).exported, value
    return max(worker.get(key, 0) for scrape in rack.scrapes for worker in scrape.values())


def test_names_and_types_in_prometheus_are_those_that_dashboards_use(
    measured: tuple[Rack, pa.Table],
) -> None:
    rack, _ = measured

    assert rack.kinds == {one.exported: one.kind.value for one in METRICS}


def test_metrics_say_of_which_job_worker_card_and_host_they_are(
    measured: tuple[Rack, pa.Table],
) -> None:
    rack, _ = measured

    assert len(rack.labels) == 2
    for told in rack.labels.values():
        assert told == {"job": "measured", "card": "rtx4090", "host": "only"}


def test_counters_end_where_the_output_does(measured: tuple[Rack, pa.Table]) -> None:
    rack, out = measured
    answered = out.filter(out["error"].is_null())

    assert rack.total(metric("rackmill_rows_total"), "ok") == sum(_ROWS) - 2
    assert rack.total(metric("rackmill_rows_total"), "failed") == 2
    assert rack.total(metric("rackmill_row_errors_total"), "InvalidRow") == 1
    assert rack.total(metric("rackmill_row_errors_total"), "PromptTooLong") == 1
    tokens = sum(answered["completion_tokens"].to_pylist())
    assert rack.total(metric("rackmill_completion_tokens_total")) == tokens
    prompts = sum(out["prompt_tokens"].to_pylist())
    assert rack.total(metric("rackmill_prompt_tokens_total")) == prompts
    assert rack.total(metric("rackmill_preemptions_total")) == 0


def test_rows_are_counted_while_the_job_runs(measured: tuple[Rack, pa.Table]) -> None:
    rack, _ = measured
    rows = metric("rackmill_rows_total").exported, "ok"
    seen = [sum(w.get(rows, 0) for w in scrape.values()) for scrape in rack.scrapes]

    assert seen == sorted(seen)
    assert any(0 < number < sum(_ROWS) - 2 for number in seen)


def test_gauges_say_what_the_engines_hold(measured: tuple[Rack, pa.Table]) -> None:
    rack, _ = measured

    assert largest(rack, "rackmill_kv_blocks") == _BLOCKS
    assert largest(rack, "rackmill_batch_size") == 16
    assert 0 < largest(rack, "rackmill_kv_blocks_held") < _BLOCKS
    assert largest(rack, "rackmill_kv_blocks_reserved") > 0
    assert largest(rack, "rackmill_rows_waiting") > 0
    assert largest(rack, "rackmill_lease_rows", "queued") > 0
    assert 8 <= largest(rack, "rackmill_lease_rows", "running") <= 16  # a scrape sees a moment
    assert largest(rack, "rackmill_lease_rows", "finished") > 0


def test_cards_tell_of_their_power_and_heat(measured: tuple[Rack, pa.Table]) -> None:
    rack, _ = measured

    assert largest(rack, "rackmill_card_watts") == 300
    assert largest(rack, "rackmill_card_limit_watts") == 450
    assert largest(rack, "rackmill_card_celsius") == 88
    assert largest(rack, "rackmill_card_slowed", "heat") == 1
    assert rack.total(metric("rackmill_energy_joules_total")) > 0


def test_the_rack_shows_how_its_cards_are_while_no_job_runs(
    measured: tuple[Rack, pa.Table],
) -> None:
    rack, _ = measured

    for index in range(2):
        assert (
            f"card {index}, RTX 4090: 300 of 450 W, 88 °C, 0% busy, 0 MiB of 24.0 GiB in use, "
            "slowed down by heat"
        ) in rack.shown
    now = rack.shown_json["machines"][0]["cards"][1]["now"]
    assert (now["watts"], now["celsius"], now["slowed"]) == (300, 88, ["heat"])
