"""What a rack says of the models that fit its cards."""

from __future__ import annotations

from dataclasses import replace

from pipeline.cluster.rack_state.gcs import Node
from pipeline.cluster.rack_state.machines import Machine
from pipeline.engine.machine.facts import ANNOUNCED, own_facts
from pipeline.service.rack.view import what_fits


def machine(monkeypatch, name: str, cards: str) -> Machine:
    monkeypatch.setenv(ANNOUNCED, cards)
    return Machine(Node(name, name, "10.0.0.1", True, False, {}), replace(own_facts(), host=name))


def test_what_fits_two_cards_alone_is_shown(monkeypatch) -> None:
    rack = [machine(monkeypatch, name, "4x rtx3060") for name in ("left", "right")]

    fits = {slot: [model for model, _ in models] for slot, models in what_fits(rack).items()}

    assert "gemma-3-12b" in fits["rtx3060"]
    # one request of 4,096 tokens beside its weights: four cards are not needed
    assert fits["2x rtx3060"] == ["gemma-3-27b"]
    assert "4x rtx3060" not in fits
