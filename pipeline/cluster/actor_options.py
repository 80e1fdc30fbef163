"""What an actor requests from Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ActorOptions:
    """What one worker requests from Ray, and the environment of its process. ``cpus``: of Ray's;
    ``node``: the machine that it must run on, if that matters."""

    gpus: int
    environment: Mapping[str, str]
    cpus: float = 0
    node: str | None = None

    @property
    def options(self) -> dict[str, object]:
        """For Ray."""
        asked: dict[str, object] = {"num_cpus": self.cpus, "num_gpus": self.gpus}
        if self.node is not None:
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            asked["scheduling_strategy"] = NodeAffinitySchedulingStrategy(self.node, soft=False)
        return asked
