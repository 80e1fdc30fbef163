"""Makes this machine part of a rack: the checks before, and the process that keeps it there."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import closing, suppress
from typing import Any

import psutil

from pipeline.cluster.rack_state.gcs import Gcs
from pipeline.cluster.rack_state.machines import MACHINE, Machine, machines
from pipeline.cluster.ray_access import own_token, token_file
from pipeline.engine.gpu.usable import offer, visible_value
from pipeline.engine.machine.facts import (
    ENGINE,
    HOST,
    VLLM,
    own_facts,
    own_versions,
    version_conflicts,
)
from pipeline.errors import JobFailed, UsageError
from pipeline.logs import file_log
from pipeline.service.rack.keeper import Keeper, free_port, taken_ports
from pipeline.service.rack.ray_node import DASHBOARD_PORT, HEAD_PORT, RayNode
from pipeline.service.rack.record import (
    RackRecord,
    forget_record,
    read_record,
    write_own_record,
)
from pipeline.user_folder import state_folder

_START_SECONDS = 90.0
_LOOK_SECONDS = 0.1
_LAST_LINES = 5
_ANYWHERE = ("192.0.2.1", 9)  # nothing is sent: the route there gives our own address


def head_node(port: int, host: str | None, dashboard_host: str) -> RayNode:
    """This machine as the head of a new rack. Raises UsageError if it cannot be."""
    _refuse_second()
    if taken_ports([port]):
        raise UsageError(
            f"--port {port} is taken on this machine", "stop what uses it, or give another --port"
        )
    make_token()
    return RayNode(
        _name(),
        host or own_address(),
        port=port,
        dashboard_host=dashboard_host,
        dashboard_port=free_port(DASHBOARD_PORT),
        **_cards(),
    )


def joining_node(head: str, host: str | None, engine: Mapping[str, Any] | None = None) -> RayNode:
    """This machine in the rack of ``head`` (HOST:PORT). ``engine``: what it uses instead of vLLM,
    written as in a job. Raises UsageError if it cannot join."""
    _refuse_second()
    if engine is not None:
        os.environ[ENGINE] = json.dumps(engine)  # read where this machine's offer is made
    if not head.rpartition(":")[2].isdigit():
        head = f"{head}:{HEAD_PORT}"
    with closing(Gcs(head)) as gcs:
        found = machines(gcs)
    check_versions(found, but=() if engine is None else (VLLM,))
    return RayNode(_name(), host or own_address(head), head=head, **_cards())


def check_versions(found: list[Machine], but: Collection[str] = ()) -> None:
    """Raise UsageError if this machine's versions differ from those of the rack's head. ``but``:
    what may differ."""
    head = next((m for m in found if m.node.is_head), None)
    if head is None or head.facts is None:
        return
    conflicts = version_conflicts(own_versions(), head.facts.versions, but)
    if conflicts:
        raise UsageError(
            f"the rack's head {head.host} has other versions: {'; '.join(conflicts)}",
            "all machines of a rack need the same ones: git pull && ./infra/setup on each",
        )


def keep_until_told(
    node: RayNode,
    say: Callable[[str], None],
    beside: Callable[[threading.Event], None] = lambda stop: None,
) -> None:
    """Stay in the rack until SIGTERM or Ctrl-C. ``beside`` runs in its own thread until the event
    that it gets is set."""
    stop = threading.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: stop.set())
    write_own_record(node.address, node.host, node.name, is_head=node.head is None)
    folder = state_folder()
    threading.Thread(target=beside, args=(stop,), daemon=True).start()
    try:
        with file_log(folder / "service.log"):
            Keeper(node, folder / "ray.log", say).keep(stop)
    finally:
        forget_record()


def keep_in_background(arguments: list[str]) -> RackRecord:
    """Start ``rackmill rack`` with ``arguments`` in a process of its own, which goes on. Returns
    when the head knows what this machine offers. Raises JobFailed if the process ends before."""
    folder = state_folder()
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "rack.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pipeline.cli.main", "rack", *arguments, "--foreground"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        record = read_record()
        if record is not None and record.pid == process.pid and _is_known(record):
            return record
        time.sleep(_LOOK_SECONDS)
    if process.poll() is None:
        process.terminate()
    said = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
    raise JobFailed(
        "Ray did not start on this machine", *said, f"all that Ray said: {folder / 'ray.log'}"
    )


def _is_known(record: RackRecord) -> bool:
    with suppress(JobFailed, UsageError), closing(Gcs(record.address)) as gcs:
        return gcs.get(MACHINE + record.name) is not None
    return False


def make_token() -> None:
    """Make a token on this machine if it has none."""
    if own_token():
        return
    file = token_file()
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(secrets.token_hex(32))


def own_address(towards: str | None = None) -> str:
    """The address at which others, in particular HOST:PORT ``towards``, reach this machine."""
    target = _ANYWHERE
    if towards is not None:
        host, _, port = towards.rpartition(":")
        target = (host, int(port))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect(target)
        return str(probe.getsockname()[0])
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family == socket.AF_INET and not address.address.startswith("127."):
                return address.address
    return "127.0.0.1"


def _refuse_second() -> None:
    record = read_record()
    if record is not None:
        place = "the head of" if record.is_head else "in"
        raise UsageError(
            f"this machine is {place} the rack of {record.address} already",
            "to leave it: rackmill rack stop",
        )


def _name() -> str:
    host = os.environ.get(HOST) or socket.gethostname()
    return f"{host}-{secrets.token_hex(4)}"


def _cards() -> dict[str, Any]:
    """Fields of a node: how many cards to announce to Ray, and which."""
    facts = own_facts()
    visible = "" if facts.announced else visible_value(offer().gpus)
    return {"cards": len(facts.devices), "visible": visible}
