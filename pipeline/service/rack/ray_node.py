"""How Ray is started on a machine of a rack: its command line and environment. Pure."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.engine.gpu.visible import VARIABLE

HEAD_PORT = 6379
DASHBOARD_PORT = 8265
METRICS_PORT = 8090
# Fixed, so that a firewall can allow them. If one is taken, Ray chooses another.
_PORTS = {
    "--node-manager-port": 6380,
    "--object-manager-port": 6381,
    "--runtime-env-agent-port": 6382,
    "--dashboard-agent-grpc-port": 6383,
    "--metrics-export-port": METRICS_PORT,
}
AGENT_PORT = 52365  # without it Ray starts no submitted job
_WORKER_PORTS = (10_002, 10_999)
_OBJECT_STORE_BYTES = 256 << 20  # no rows go through it
_ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    # Ray would start workers with a niceness of 15: other programs would slow the engines down
    "RAY_worker_niceness": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # no spare workers: each looks for signals a hundred times a second
    "RAY_num_workers_soft_limit": "0",
    "RAY_prestart_worker_first_driver": "0",
    # when stopped, Ray would wait half a minute for its workers to end: ours do not, and need not
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
}


@dataclass(frozen=True)
class RayNode:
    """One machine's Ray. ``head``: HOST:PORT of the rack to join; None for the head itself, which
    then listens on ``port``. ``host``: the address at which others reach this machine.
    ``dashboard_host``: on which the head's dashboard listens. ``cards``: how many it has;
    ``visible``: which of the machine's cards, as in ``CUDA_VISIBLE_DEVICES``.
    """

    name: str
    host: str
    head: str | None = None
    port: int = HEAD_PORT
    dashboard_host: str = "127.0.0.1"
    dashboard_port: int = DASHBOARD_PORT
    cards: int = 0
    visible: str = ""

    @property
    def dashboard(self) -> str:
        """Where the head's own processes reach Ray's job submission."""
        host = "127.0.0.1" if self.dashboard_host == "0.0.0.0" else self.dashboard_host
        return f"http://{host}:{self.dashboard_port}"

    @property
    def address(self) -> str:
        """The address of the rack's head."""
        return self.head or f"{self.host}:{self.port}"

    def command(
        self, taken: frozenset[int] = frozenset(), agent_port: int = AGENT_PORT
    ) -> list[str]:
        """``ray start``, which ends when it is stopped, or when a part of it dies. ``taken``: ports
        in use; ``agent_port``: a free one."""
        command = [str(Path(sys.executable).parent / "ray"), "start", "--block"]
        if self.head is None:
            command += ["--head", "--port", str(self.port)]
            command += ["--dashboard-host", self.dashboard_host]
            command += ["--dashboard-port", str(self.dashboard_port)]
            command += ["--no-monitor"]  # no autoscaling
        else:
            command += ["--address", self.head]
        command += ["--dashboard-agent-listen-port", str(agent_port)]
        for option, port in _PORTS.items():
            if port not in taken:
                command += [option, str(port)]
        if not taken:  # else the range is another Ray's, too
            first, last = _WORKER_PORTS
            command += ["--min-worker-port", str(first), "--max-worker-port", str(last)]
        command += ["--node-ip-address", self.host, "--node-name", self.name]
        command += ["--num-gpus", str(self.cards)]
        command += ["--object-store-memory", str(_OBJECT_STORE_BYTES)]
        # it would look for new lines in all logs ten times per second, to send them to drivers
        command += ["--include-log-monitor", "false"]
        return [*command, "--disable-usage-stats", "--log-style", "record"]

    def environment(self, given: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of that command. ``given`` (None: this process's) overrides our settings,
        but not cards and token."""
        given = dict(os.environ if given is None else given)
        if self.cards:  # Ray refuses more cards than the variable names, even announced ones
            given.pop(VARIABLE, None)
        cards = {VARIABLE: self.visible} if self.visible else {}
        return {**_ENVIRONMENT, **given, **cards, "RAY_AUTH_MODE": "token"}

    @property
    def ports(self) -> list[int]:
        """The ports that Ray can do without if they are taken."""
        return list(_PORTS.values())
