"""The driver's part of a run's log: what it tells those who watch it, and how it ends."""

from __future__ import annotations

import logging
import os
import platform
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pipeline.driver.coordinator.coordinator import Snapshot
from pipeline.driver.forecast.types import Forecast
from pipeline.driver.plan.plan import Plan
from pipeline.driver.progress.watcher import Watcher
from pipeline.errors import NoCard, RackmillError, Stopped
from pipeline.humanize import count, duration, plural
from pipeline.logs import about
from pipeline.output.runs.run_log import DRIVER, KEPT_RUNS, RunLog, forget_old_runs, new_run
from pipeline.storage.base import Storage

_log = logging.getLogger(__name__)
_QUOTED_ROW = re.compile(r"(got \d+): .*", re.DOTALL)  # what Arrow says of a CSV line


@contextmanager
def logged(what: str, output: str) -> Iterator[RunLog]:
    """While a run lasts, from its plan to its end. An error that ends it names the log, if that
    was opened. ``what``: the job, or what else is done; ``output``: the address of its output."""
    with RunLog(new_run(), DRIVER) as log, about(run=log.run):
        _log.info("%s begins: process %d on %s", what, os.getpid(), platform.node())
        try:
            yield log
        except (Stopped, NoCard) as e:
            _log.info("%s ends: %s", what, e.message)
            raise
        except RackmillError as e:
            _log.error("%s failed: %s", what, _QUOTED_ROW.sub(r"\1", e.message))
            if log.opened:
                e.hints = (f"what led to it: rackmill logs {output}", *e.hints)
            raise
        except KeyboardInterrupt:
            _log.info("%s ends: interrupted", what)
            raise
        except BaseException as e:
            _log.critical("%s failed unexpectedly", what, exc_info=e)
            raise
        _log.info("%s is done", what)


def open_log(log: RunLog, storage: Storage) -> None:
    """The run has begun to change its output: its log lies there from now on. ``storage`` waits for
    nothing."""
    log.open(storage)
    # on an object store a large rack's logs take minutes to delete, one after the other
    threading.Thread(target=_forget, args=(storage,), name="old logs", daemon=True).start()


def _forget(storage: Storage) -> None:
    with suppress(Exception):  # the next run tries again
        forget_old_runs(storage, KEPT_RUNS)


class LoggedNotes(Watcher):
    """Logs what a run tells whoever watches."""

    def __init__(self) -> None:
        self._why = ""
        self._done = -1

    def note(self, line: str) -> None:
        _log.info("%s", line)

    def doubt(self, line: str) -> None:
        """Nothing: rows are not for logs."""

    def planned(self, plan: Plan, forecast: Forecast) -> None:
        rows = sum(unit.rows for unit in plan.missing)
        _log.info(
            "%s of %s are to be done, in %s; model %s",
            count(rows),
            plural(plan.input.rows, "row"),
            plural(len(plan.missing), "unit"),
            plan.model.name,
        )
        for placed in forecast.placed:
            slots = plural(len(placed.group.slots), "engine")
            settings = ", ".join(f"{k}={v}" for k, v in sorted(placed.choice.arguments.items()))
            _log.info("%s on %s: %s", slots, placed.group.name, settings or "settings of its kind")

    def progress(self, snapshot: Snapshot, plan: Plan) -> None:  # noqa: ARG002
        if snapshot.units_done == self._done:
            return
        self._done = snapshot.units_done
        rows = plural(snapshot.committed.rows, "row")
        units = f"{count(snapshot.units_done)} of {plural(snapshot.units, 'unit')}"
        _log.debug("%s of this run are committed, %s", rows, units)

    def waiting(self, why: str) -> None:
        if why != self._why:
            _log.info("no engine is at work: %s", why) if why else _log.info("on again")
        self._why = why

    def stopping(self, requests: int | None, grace_seconds: float, by: str) -> None:
        left = "an unknown number of requests" if requests is None else plural(requests, "request")
        asked = by or "Ctrl-C or SIGTERM"
        _log.info("stops, as %s asks: %s have %s", asked, left, duration(grace_seconds))
