"""The scrape configuration, the alerts and the dashboard speak of metrics that the code exports."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.service.rack.ray_node import METRICS_PORT
from pipeline.worker.metrics.metrics import METRICS, Kind
from tests.infra.dashboard import expressions

REPOSITORY = Path(__file__).parents[2]
INFRA = REPOSITORY / "infra"
NAME = re.compile(r"\bray_rackmill_\w+")
SELECTED = re.compile(r"\b(ray_rackmill_\w+)(?:\{([^}]*)\})?")
EXPORTED = {metric.exported: metric for metric in METRICS}


def load(name: str) -> Any:
    return yaml.safe_load((INFRA / name).read_text(encoding="utf-8"))


def alerts() -> list[str]:
    return [
        rule["expr"] for group in load("prometheus-rules.yml")["groups"] for rule in group["rules"]
    ]


def test_every_metric_is_one_that_the_code_exports() -> None:
    for expression in [*expressions(), *alerts()]:
        assert set(NAME.findall(expression)) <= EXPORTED.keys(), expression


def test_every_metric_that_the_code_exports_is_on_the_dashboard() -> None:
    shown = {name for expression in expressions() for name in NAME.findall(expression)}

    assert shown == EXPORTED.keys()


def test_what_is_selected_by_and_grouped_by_are_labels_of_the_metric() -> None:
    for expression in [*expressions(), *alerts()]:
        grouped = {
            g.strip() for by in re.findall(r"\bby \(([^)]*)\)", expression) for g in by.split(",")
        }
        for name, selectors in SELECTED.findall(expression):
            labels = set(re.findall(r"(\w+)=", selectors))
            assert labels | grouped <= set(EXPORTED[name].labels), (name, expression)


def test_the_values_that_are_selected_are_ones_that_the_metric_takes() -> None:
    for expression in [*expressions(), *alerts()]:
        for name, selectors in SELECTED.findall(expression):
            metric = EXPORTED[name]
            if metric.label is not None:
                for value in re.findall(rf'\b{metric.label}="([^"]*)"', selectors):
                    assert value in metric.values


def test_rates_are_taken_of_counters_and_of_nothing_else() -> None:
    for expression in [*expressions(), *alerts()]:
        for name in [] if "label_values" in expression else NAME.findall(expression):
            rated = re.search(rf"(rate|increase)\({name}\b", expression) is not None
            assert rated == (EXPORTED[name].kind is Kind.COUNTER), (name, expression)


def test_the_labels_of_the_code_stay_as_they_are_and_all_of_its_metrics_are_kept() -> None:
    (scrape,) = load("prometheus.yml")["scrape_configs"]

    assert scrape["honor_labels"] is True  # else `job` is taken for Prometheus' own
    (kept,) = scrape["metric_relabel_configs"]
    assert all(re.fullmatch(kept["regex"], name) for name in EXPORTED)


def test_ports_are_those_that_rackmill_starts_ray_with() -> None:
    text = (INFRA / "prometheus.yml").read_text(encoding="utf-8")

    assert set(re.findall(r'\.\d+:(\d+)"', text)) == {str(METRICS_PORT)}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on this machine")
@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "infra/prometheus.yml"), ("test", "rules", "tests/infra/rules.yml")],
    ids=["config", "rules"],
)
def test_promtool_takes_them(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["promtool", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
