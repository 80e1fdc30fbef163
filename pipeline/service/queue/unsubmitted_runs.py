"""Runs on a rack that were not submitted (`rackmill run --address`, runs of schedules). They take
part in the queue, so that all runs on the rack share its cards."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict

from pipeline.cluster.rack_state.gcs import Gcs, HeadGone
from pipeline.errors import JobFailed, RackmillError, Stopped
from pipeline.job.job import Job
from pipeline.output.runs.job_file import job_content
from pipeline.service.queue.mailbox import NobodyAnswers, ask
from pipeline.service.queue.progress_poller import counted_at

_QUEUE, _GUEST = "queue", "guest/"  # names of values
_BEAT_SECONDS = 5.0
_SILENT_SECONDS = 60.0


@contextmanager
def guest_of(address: str | None, job: Job) -> Iterator[str | None]:
    """Within this, a run of ``job`` is a guest of the queue at ``address``; yields its name there.
    None if there is no rack, or it has no queue: then the run takes what cards are free. Raises
    UsageError as the queue does, HeadGone."""
    gcs = Gcs(address) if address is not None else None
    if gcs is None or gcs.get(_QUEUE) is None:
        yield None
        return
    name = f"{job.name}-{secrets.token_hex(3)}"
    try:
        ask(gcs, "enter", {"id": name, "name": job.name, "content": job_content(job)})
    except NobodyAnswers:
        yield None
        return
    stop = threading.Event()
    beats = threading.Thread(target=_beat, args=(gcs, name, stop), daemon=True)
    beats.start()
    code, message = 0, ""
    try:
        yield name
    except RackmillError as e:
        code, message = e.exit_code, e.message
        raise
    except BaseException as e:
        code = Stopped.exit_code if isinstance(e, KeyboardInterrupt) else JobFailed.exit_code
        raise
    finally:
        stop.set()
        beats.join()
        about = {"job": name, "code": code, "message": message}
        if counts := counted_at(job.output.path):
            about["counts"] = asdict(counts)
        with suppress(RackmillError):  # without it, the queue notices the missing heartbeats
            ask(gcs, "leave", about)
        gcs.close()


def _beat(gcs: Gcs, name: str, stop: threading.Event) -> None:
    beats = 0
    while True:
        with suppress(HeadGone):
            gcs.put(_GUEST + name, str(beats).encode())
        beats += 1
        if stop.wait(_BEAT_SECONDS):
            return


def say_that_there_is_a_queue(gcs: Gcs) -> None:
    """Tell this to runs that might join the queue. Raises HeadGone."""
    gcs.put(_QUEUE, b"", over=False)


class UnsubmittedRuns:
    """The queue's side: which guests are still there."""

    def __init__(self) -> None:
        self._heard: dict[str, tuple[bytes | None, float]] = {}  # the last beat, and when

    def gone(self, gcs: Gcs, names: Sequence[str]) -> list[str]:
        """The ``names`` that have sent no sign of life for too long. Raises HeadGone."""
        now = time.monotonic()
        beats = gcs.all([_GUEST + name for name in names])
        for name in names:
            beat = beats.get(_GUEST + name)
            if name not in self._heard or self._heard[name][0] != beat:
                self._heard[name] = beat, now
        self._heard = {name: self._heard[name] for name in names}
        return [name for name, (_, at) in self._heard.items() if now - at > _SILENT_SECONDS]

    def forget(self, gcs: Gcs, name: str) -> None:
        """Forget a run that has ended. Raises HeadGone."""
        gcs.delete(_GUEST + name)
