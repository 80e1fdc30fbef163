"""Several hosts on one machine: network namespaces with addresses of their own, on one switch.

Each has its own network, its own host name and its own folder for Ray; files are shared, as on a
rack with a common folder. Needs root and iproute2; where that is not given, hosts are processes
with state of their own on loopback, and being cut off is being stopped.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.support.processes import Finished, Started

_NET = "10.77.{}.{}"
# a mount and a host name that nobody else sees, then the command
_ENTER = 'mkdir -p /tmp/ray && mount --bind "$0" /tmp/ray && hostname "$1" && shift && exec "$@"'
_FETCH = "import sys, httpx; print(httpx.get(sys.argv[1], timeout=10).text)"
RACKMILL = [sys.executable, "-m", "pipeline.cli.main"]


@functools.cache
def namespaces_work() -> bool:
    """Whether this machine lets us have network namespaces."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
        return False
    name = f"rmtest{secrets.token_hex(2)}"
    if _ip("netns", "add", name, check=False) != 0:
        return False
    try:
        pair = ["link", "add", "eth0", "type", "veth", "peer", "name", "eth1"]
        inside = _ip("netns", "exec", name, "ip", *pair, check=False)
        mounts = subprocess.run(
            ["unshare", "--mount", "--uts", "true"], capture_output=True, check=False
        )
        return inside == 0 and mounts.returncode == 0
    finally:
        _ip("netns", "delete", name, check=False)


@dataclass
class Host:
    """One machine. ``cards``: those it announces."""

    name: str
    address: str
    folder: Path
    namespace: str | None
    link: str | None  # at the switch
    switch: str | None
    environment: dict[str, str] = field(default_factory=dict)
    cores: str | None = None

    def start(self, *arguments: str, cards: str | None = None, **changed: str) -> Started:
        """``rackmill`` with ``arguments`` there. ``changed``: in its environment."""
        environment = self.environment | changed
        if cards is not None:
            environment["RACKMILL_CARDS"] = cards
        return Started(self._entered([*RACKMILL, *arguments]), self.folder, environment)

    def rackmill(self, *arguments: str, cards: str | None = None, **changed: str) -> Finished:
        """The same, and wait for its end."""
        return self.start(*arguments, cards=cards, **changed).wait()

    def python(self, code: str) -> Started:
        """A program there."""
        command = self._entered([sys.executable, "-c", code])
        return Started(command, self.folder, self.environment)

    def fetch(self, address: str) -> str:
        """What an address of HTTP says, asked there. Empty if nobody answers."""
        command = self._entered([sys.executable, "-c", _FETCH, address])
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def cut_off(self) -> None:
        """Nobody reaches it, and it reaches nobody."""
        if self.link is not None:
            self._switch("down")
            return
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGSTOP)

    def reconnect(self) -> None:
        if self.link is not None:
            self._switch("up")
            return
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """As if somebody had pulled its plug: also for what was started in this very moment."""
        while alive := self.processes():
            for process in alive:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(alive, timeout=1)

    def processes(self) -> list[psutil.Process]:
        """All that run there. Those of Ray that give themselves a title lose their environment."""
        found = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get("RACKMILL_STATE") == self.environment["RACKMILL_STATE"]:
                    found |= {process, *process.children(recursive=True)}
        return list(found)

    def _switch(self, state: str) -> None:
        assert self.switch is not None
        assert self.link is not None
        _ip("netns", "exec", self.switch, "ip", "link", "set", self.link, state)

    def _entered(self, command: list[str]) -> list[str]:
        if self.cores is not None:
            command = ["taskset", "-c", self.cores, *command]
        if self.namespace is None:
            return command
        ray = self.folder / "ray"
        ray.mkdir(exist_ok=True)
        enter = ["unshare", "--mount", "--uts", "--propagation", "private"]
        inside = ["sh", "-c", _ENTER, str(ray), self.name, *command]
        return ["ip", "netns", "exec", self.namespace, *enter, *inside]


class Network:
    """Hosts that reach each other, from ``with`` to its end."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._given = dict(environment or {})
        self._mark = secrets.token_hex(2)
        self._net = 1 + secrets.randbelow(250)
        self._hosts: list[Host] = []
        self._switch = f"rm{self._mark}sw" if namespaces_work() else None
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        self._token = str(token)

    def __enter__(self) -> Network:
        if self._switch is not None:
            _ip("netns", "add", self._switch)
            self._at_switch("link", "add", "br0", "type", "bridge")
            self._at_switch("link", "set", "br0", "up")
        return self

    def __exit__(self, *exception: object) -> None:
        for host in self._hosts:
            host.reconnect()
            host.kill()
            if host.namespace is not None:
                _ip("netns", "delete", host.namespace, check=False)
        if self._switch is not None:
            _ip("netns", "delete", self._switch, check=False)

    def host(self, name: str, *, cores: str | None = None) -> Host:
        """One more."""
        folder = self._folder / name
        folder.mkdir()
        number = len(self._hosts) + 1
        namespace = link = None
        address = "127.0.0.1"
        if self._switch is not None:
            address = _NET.format(self._net, number)
            namespace, link = f"rm{self._mark}{number}", f"rm{self._mark}s{number}"
            _ip("netns", "add", namespace)
            inner = f"rm{self._mark}i{number}"
            self._at_switch("link", "add", link, "type", "veth", "peer", "name", inner)
            self._at_switch("link", "set", inner, "netns", namespace)
            self._at_switch("link", "set", link, "master", "br0", "up")
            for command in (
                ["link", "set", "lo", "up"],
                ["link", "set", inner, "name", "eth0"],
                ["addr", "add", f"{address}/24", "dev", "eth0"],
                ["link", "set", "eth0", "up"],
            ):
                _ip("netns", "exec", namespace, "ip", *command)
        environment = self._given | {
            "RACKMILL_STATE": str(folder / "state"),
            "RACKMILL_HOST_NAME": name,
            "RAY_AUTH_TOKEN_PATH": self._token,
        }
        host = Host(name, address, folder, namespace, link, self._switch, environment, cores)
        self._hosts.append(host)
        return host

    def _at_switch(self, *arguments: str) -> None:
        assert self._switch is not None
        _ip("netns", "exec", self._switch, "ip", *arguments)


def _ip(*arguments: str, check: bool = True) -> int:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.returncode
