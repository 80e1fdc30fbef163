"""The cards of a worker's own slot, as its process sees them."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

from pipeline.budget.cards.lookup import in_slot
from pipeline.cluster.engine_groups import is_processor
from pipeline.engine.machine.facts import own_devices
from pipeline.errors import MachineUnfit

_VISIBLE = "CUDA_VISIBLE_DEVICES"
# Ray's own switch: it only counts the cards in use; which ones they are is set here
CHOSEN_HERE = {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"}


def take_cards(cards: Sequence[int]) -> None:
    """From now on this process, and what it starts, sees only these of its machine's cards. Call it
    before anything of CUDA is loaded. ``cards``: by their index in the machine's own list.

    Raises MachineUnfit where one is gone.
    """
    there = own_devices()
    named = os.environ.get(_VISIBLE, "").split(",")
    # the list from when Ray was started here: indices stay, whatever was lost since
    numbers = [int(part) for part in named if part.isdigit()] or list(there)
    for card in cards:
        if card >= len(numbers) or numbers[card] not in there:
            raise MachineUnfit(f"card {card} is gone: the driver shows {len(there)} now")
    os.environ[_VISIBLE] = ",".join(str(numbers[card]) for card in cards)


def own_card(names: Collection[str], expected: str) -> str:
    """Which of the kinds ``names`` of slots this process was given: the ``expected`` one where no
    card can be seen. Raises MachineUnfit if it is not one of them."""
    devices = own_devices()
    visible = [part.strip() for part in os.environ.get(_VISIBLE, "").split(",")]
    if is_processor(expected) or not all(p.isdigit() and int(p) in devices for p in visible):
        return expected
    found = [devices[int(part)].card for part in visible]
    name = in_slot(found[0].name, len(found))
    if name not in names or len({card.name for card in found}) > 1:
        there = " and ".join(map(str, found))
        raise MachineUnfit(f"Ray gave it the {there}, on which the job does not run")
    return name
