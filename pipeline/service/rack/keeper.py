"""Keeps this machine in its rack: starts Ray, tells the head what the machine offers, and restarts
Ray when it ended or the head has forgotten us. Network and head may come and go."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path

import psutil

from pipeline.cluster.rack_state.card_readings import answer, pending_question
from pipeline.cluster.rack_state.gcs import Gcs
from pipeline.cluster.rack_state.machines import MACHINE
from pipeline.engine.machine.card_reading import CardReader
from pipeline.engine.machine.facts import MachineFacts, own_facts
from pipeline.errors import RackmillError
from pipeline.service.rack.ray_node import AGENT_PORT, RayNode

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 2.0
_FORGOTTEN_SECONDS = 15.0  # a head that knows us shows it much sooner
_STARTING_SECONDS = 45.0  # added for a Ray that has just been started, on a busy machine
_STOP_SECONDS = 20.0
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 15.0
_STEADY_SECONDS = 60.0  # a Ray that lived so long did not fail to start


class Keeper:
    """``log``: the file for Ray's output. ``say``: gets a line for each thing that happens."""

    def __init__(self, node: RayNode, log: Path, say: Callable[[str], None]) -> None:
        self._node = node
        self._log = log
        self._say = say
        self._facts: MachineFacts = own_facts()
        self._ray: subprocess.Popen[bytes] | None = None
        self._seen = 0.0  # when the head last knew us
        self._told = False
        self._cards = CardReader()
        self._answered: str | None = None  # the last question about the state of the cards

    def keep(self, stop: threading.Event) -> None:
        """Keep the machine in the rack until ``stop``."""
        wait = _FIRST_WAIT
        try:
            while not stop.is_set():
                began = time.monotonic()
                self._start()
                self._watch(stop)
                self._end()
                if stop.is_set():
                    return
                steady = time.monotonic() - began > _STEADY_SECONDS
                wait = _FIRST_WAIT if steady else min(2 * wait, _LONGEST_WAIT)
                stop.wait(wait)
        finally:
            self._end()

    def _start(self) -> None:
        taken = frozenset(taken_ports(self._node.ports))
        with self._log.open("ab") as log:
            self._ray = subprocess.Popen(
                self._node.command(taken, free_port(AGENT_PORT)),
                env=self._node.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._seen = time.monotonic() + _STARTING_SECONDS

    def _watch(self, stop: threading.Event) -> None:
        """Watch until Ray ends, or the head does not know us any more."""
        assert self._ray is not None
        self._told = False
        while not stop.wait(_LOOK_SECONDS):
            if self._ray.poll() is not None:
                _log.warning("Ray ended with code %s", self._ray.returncode)
                self._say(f"Ray ended with code {self._ray.returncode}; it is started again")
                return
            known = self._tell()
            if known is None:
                self._told = False
                continue  # no answer: Ray itself handles that, and the head may come back
            if known:
                self._seen = time.monotonic()
            elif time.monotonic() - self._seen > _FORGOTTEN_SECONDS:
                _log.warning("the head does not know this machine any more")
                self._say("the head does not know this machine any more; Ray is started again")
                return

    def _tell(self) -> bool | None:
        """Tell the head what we offer. Returns whether it knows us; None: it does not answer."""
        try:
            with closing(Gcs(self._node.address)) as gcs:
                if not any(node.alive and node.name == self._node.name for node in gcs.nodes()):
                    return False
                if not self._told or gcs.get(MACHINE + self._node.name) is None:
                    gcs.put(MACHINE + self._node.name, self._facts.encode())
                    if not self._told:
                        _log.info("in the rack of %s", self._node.address)
                        self._say(f"{self._facts.host} is in the rack of {self._node.address}")
                    self._told = True
                question = pending_question(gcs)
                if question is not None and question != self._answered:
                    answer(gcs, self._node.name, question, self._cards.all())
                    self._answered = question
        except RackmillError:
            return None
        return True

    def _end(self) -> None:
        """End Ray and all processes that it started."""
        if self._ray is None:
            return
        processes = _all_of(self._ray.pid)
        if self._ray.poll() is None:
            self._ray.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._ray.wait(_STOP_SECONDS)
        with suppress(OSError):
            os.killpg(self._ray.pid, signal.SIGKILL)
        for process in processes:
            with suppress(psutil.Error):
                process.kill()
        self._ray.wait()
        self._ray = None


def taken_ports(ports: Iterable[int]) -> list[int]:
    """Those of ``ports`` that are taken on this machine."""
    taken = []
    for port in ports:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError:
                taken.append(port)
    return taken


def free_port(first: int) -> int:
    """The first port, from ``first`` on, that is free on this machine."""
    return next(port for port in range(first, first + 1000) if not taken_ports([port]))


def _all_of(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
