"""A process that keeps one engine loaded for whoever tries prompts, until nobody has for a while.

It listens on a socket in a folder that only its user can open. What comes in is pickled, as between
the processes of one program: whoever can open the folder could as well run anything by themselves.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, Listener
from typing import NoReturn

from pipeline.driver.plan.job_model import find_model
from pipeline.driver.trial.client import AskedRows, EngineStart, engine_key
from pipeline.engine.failure.child_guard import guard_children
from pipeline.engine.load import load_engine
from pipeline.engine.protocol import Engine
from pipeline.errors import EngineFailed, JobFailed, RackmillError
from pipeline.model.folder import ModelFolder
from pipeline.model.tokenizer import Tokenizer
from pipeline.output.columns.results import RowResult
from pipeline.prompt.builder import tokenizer_of
from pipeline.worker.answer_rows import answer_rows
from pipeline.worker.own_slot import take_cards

IDLE_SECONDS = 600.0
_CLOSE_SECONDS = 30.0


class _EngineServer:
    """One engine, and who asks it: one at a time."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._model: ModelFolder | None = None
        self._tokenizers: dict[str | None, Tokenizer] = {}  # by the job's template for messages
        self._key = ""
        self._last = time.monotonic()
        self._busy = False

    def serve(self, listener: Listener) -> None:
        threading.Thread(target=self._end_when_idle, daemon=True).start()
        while True:
            with suppress(OSError, EOFError), listener.accept() as connection:
                self._busy = True
                try:
                    self._hear(connection)
                finally:
                    self._busy, self._last = False, time.monotonic()

    def _hear(self, connection: Connection) -> None:
        connection.send(self._key)
        while True:
            message: EngineStart | AskedRows | None = connection.recv()
            if message is None:
                self._end()
            try:
                if isinstance(message, EngineStart):
                    self._load(message, connection.send)
                    connection.send(None)
                else:
                    connection.send(self._answer(message))
            except Exception as e:  # of one row perhaps: no reason to lose a loaded model
                known = isinstance(e, RackmillError)
                connection.send(e if known else JobFailed(f"{type(e).__name__}: {e}"))
                if self._engine is None or isinstance(e, EngineFailed):
                    self._end()

    def _load(self, asked: EngineStart, say: Callable[[str], None]) -> None:
        if asked.cards:
            take_cards(asked.cards)
        model = find_model(asked.job, say)
        self._model = model
        self._engine = load_engine(asked.job, asked.arguments, model, say)
        self._key = engine_key(asked.job)

    def _answer(self, asked: AskedRows) -> list[RowResult]:
        assert self._engine is not None
        assert self._model is not None
        key = asked.job.chat_template
        if key not in self._tokenizers:
            self._tokenizers = {key: tokenizer_of(asked.job, self._model)}
        tokenizer = self._tokenizers[key]
        return answer_rows(asked.job, asked.rows, asked.places, self._engine, tokenizer)

    def _end_when_idle(self) -> None:
        while self._busy or time.monotonic() - self._last < IDLE_SECONDS:
            time.sleep(1.0)
        self._end()

    def _end(self) -> NoReturn:
        watch = threading.Timer(_CLOSE_SECONDS, os._exit, (0,))
        watch.daemon = True
        watch.start()
        if self._engine is not None:
            with suppress(Exception):  # the process ends either way
                self._engine.close()
        os._exit(0)


def main(address: str) -> None:
    guard_children()
    listener = Listener(address, family="AF_UNIX")
    _EngineServer().serve(listener)


if __name__ == "__main__":
    main(sys.argv[1])
