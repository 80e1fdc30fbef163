"""The machines of a rack, with the resources of each."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from pipeline.cluster.rack_state.gcs import Gcs, Node
from pipeline.engine.machine.facts import MachineFacts

MACHINE = "machine/"  # prefix of facts' names; the machine's name follows


@dataclass(frozen=True)
class Machine:
    """``facts``: None until the machine was examined."""

    node: Node
    facts: MachineFacts | None

    @property
    def host(self) -> str:
        return self.facts.host if self.facts else self.node.address

    @property
    def cards(self) -> int:
        """GPUs that Ray gives to engines there."""
        return int(self.node.resources.get("GPU", 0))

    @property
    def works(self) -> bool:
        """Whether engines may run there at all."""
        return self.cards > 0 or self.node.resources.get("CPU", 0) > 0


def machines(gcs: Gcs) -> list[Machine]:
    """The machines that are there now, the head first. Raises HeadGone."""
    alive = [node for node in gcs.nodes() if node.alive]
    alive.sort(key=lambda n: (not n.is_head, n.address, n.name))
    said = gcs.all([name for node in alive for name in _names(node)])
    return [Machine(node, _facts(node, said)) for node in alive]


def _facts(node: Node, said: dict[str, bytes]) -> MachineFacts | None:
    """What the machine, or a task that examined it, has written."""
    for name in _names(node):
        if name in said:
            with suppress(ValueError):
                return MachineFacts.decode(said[name])
    return None


def _names(node: Node) -> tuple[str, str]:
    """The names for a machine's facts: with its own name, or with Ray's ID."""
    return MACHINE + node.name, MACHINE + node.id
