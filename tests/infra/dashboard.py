"""The Grafana dashboard, as the tests look at it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "infra/grafana/rackmill.json"


def read() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def expressions() -> list[str]:
    """Those that its panels and variables ask Prometheus for."""
    board = read()
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    variables = board["templating"]["list"]
    return asked + [v["query"] for v in variables if v["type"] == "query"]
