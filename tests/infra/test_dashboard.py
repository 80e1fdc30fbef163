"""The dashboard, held against Grafana's own models of one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.infra.dashboard import read


def through_grafanas_models(board: dict[str, Any]) -> Any:
    """What they know of it: all else is lost on the way."""
    register_default_plugins()
    known = Dashboard.from_json(json.loads(json.dumps(board)))
    return json.loads(json.dumps(known, cls=JSONEncoder))


def kept(given: Any, found: Any) -> bool:
    """Whether all of ``given`` is in ``found``, which may have defaults beside."""
    if isinstance(given, dict):
        return isinstance(found, dict) and all(
            key in found and kept(value, found[key]) for key, value in given.items()
        )
    if isinstance(given, list):
        return (
            isinstance(found, list)
            and len(given) == len(found)
            and all(kept(one, other) for one, other in zip(given, found, strict=True))
        )
    return bool(given == found)


def test_grafana_knows_all_that_is_said_in_it() -> None:
    board = read()

    assert kept(board, through_grafanas_models(board))


@pytest.mark.parametrize("place", ["options", "fieldConfig"])
def test_a_word_that_grafana_does_not_know_is_found(place: str) -> None:
    board = read()
    board["panels"][0][place]["nonsense"] = 1

    assert not kept(board, through_grafanas_models(board))


def test_panels_have_numbers_of_their_own_and_do_not_overlap() -> None:
    panels = read()["panels"]
    places = [panel["gridPos"] for panel in panels]
    squares = [
        (x, y)
        for at in places
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len(set(squares)) == len(squares)
    assert max(x for x, _ in squares) < 24  # as wide as Grafana's grid


def test_every_panel_asks_the_prometheus_that_is_chosen() -> None:
    board = read()
    chosen = {"type": "prometheus", "uid": "${source}"}

    assert all(
        target["datasource"] == panel["datasource"] == chosen
        for panel in board["panels"]
        for target in panel["targets"]
    )
