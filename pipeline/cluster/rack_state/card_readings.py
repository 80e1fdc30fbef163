"""The current state of a rack's cards, requested through its head.

It is not read all the time: that would keep the cards of laptops from sleeping. A reader writes a
question, and each machine's keeper answers it the next time it looks.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Collection, Sequence

from pipeline.cluster.rack_state.gcs import Gcs
from pipeline.engine.machine.card_reading import CardReading

_ASKED, _ANSWER = "cards-asked", "cards-now/"
_LONGEST_SECONDS = 4.0  # a keeper looks every two seconds
_LOOK_SECONDS = 0.2


def ask_for_cards(gcs: Gcs, machines: Collection[str]) -> dict[str, tuple[CardReading, ...]]:
    """The cards of those ``machines`` (by Ray's names) whose keepers answer in time. Raises
    HeadGone."""
    question = secrets.token_hex(8)
    gcs.put(_ASKED, question.encode())
    deadline = time.monotonic() + _LONGEST_SECONDS
    found: dict[str, tuple[CardReading, ...]] = {}
    while time.monotonic() < deadline and len(found) < len(machines):
        time.sleep(_LOOK_SECONDS)
        for name, content in gcs.all([_ANSWER + machine for machine in machines]).items():
            answer = json.loads(content)
            if answer["question"] == question:
                cards = tuple(CardReading.from_json(card) for card in answer["cards"])
                found[name.removeprefix(_ANSWER)] = cards
    return found


def pending_question(gcs: Gcs) -> str | None:
    """The last question that was written. Raises HeadGone."""
    content = gcs.get(_ASKED)
    return None if content is None else content.decode()


def answer(gcs: Gcs, machine: str, question: str, cards: Sequence[CardReading]) -> None:
    """For a machine's keeper. Raises HeadGone."""
    content = {"question": question, "cards": [card.as_json() for card in cards]}
    gcs.put(_ANSWER + machine, json.dumps(content).encode())
