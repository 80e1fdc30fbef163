"""One worker: reads its own rows, keeps one engine full, writes its own output."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from pipeline.engine.protocol import Engine, EngineFacts
from pipeline.engine.warmup_check import check_warm_engine
from pipeline.errors import EngineFailed, RackmillError
from pipeline.humanize import duration
from pipeline.output.dataset import Dataset
from pipeline.prompt.answers import Answers
from pipeline.prompt.builder import tokenizer_of
from pipeline.storage.base import open_storage
from pipeline.worker.answer_cache.lookup import AnswerLookup
from pipeline.worker.answer_cache.store import open_answers
from pipeline.worker.coordination.messages import LastWords, Progress, WorkerSpec
from pipeline.worker.engine_loop.engine_loop import NO_STEP, EngineLoop
from pipeline.worker.engine_loop.loop_settings import LoopSettings
from pipeline.worker.engine_loop.watchdog import Watchdog
from pipeline.worker.feeder import Feeder
from pipeline.worker.shared_rows import answer_shared_rows
from pipeline.worker.writer import Writer

if TYPE_CHECKING:  # it imports Ray
    from pipeline.worker.coordination.remote import RemoteCoordination

_log = logging.getLogger(__name__)
_CLOSE_SECONDS = 60.0


def work(
    spec: WorkerSpec,
    coordination: RemoteCoordination,
    load_engine: Callable[[], Engine],
    on_ready: Callable[[EngineFacts], None] = lambda facts: None,
    on_hang: Callable[[LastWords], None] | None = None,
    keep: Callable[[Engine], None] | None = None,
) -> Progress:
    """Work on leases until the coordinator says that all is done.

    ``on_hang`` is called from another thread, with what took too long as ``why``; it should end the
    process, since nothing else ends an engine that hangs. ``keep`` takes over the engine if all
    went well; otherwise it is closed.

    A unit passes through threads: the feeder reads and tokenizes (from the start, while the engine
    loads), one looks up answers that other workers have stored, this one admits and steps, the
    writer commits. Raises whatever went wrong in any of them. If it was the engine, what it had
    finished is committed first, as far as no row before it is missing.
    """
    job, model = spec.job, spec.model
    tokenizer = tokenizer_of(job, model)
    dataset = Dataset(open_storage(job.output.path))
    store = open_answers(job, model.hash, dataset.storage)
    stored = AnswerLookup(store) if store is not None else None
    writer = Writer(spec, dataset, coordination, store)
    feeder = Feeder(spec, dataset, tokenizer, coordination, writer.put)
    writer.stage.start()
    feeder.stage.start()
    if stored is not None:
        stored.stage.start()
    engine: Engine | None = None
    loop: EngineLoop | None = None

    def last_words(why: str) -> LastWords:
        return LastWords(why, () if loop is None else tuple(loop.rows_in_engine))

    def bark(why: str) -> None:
        if on_hang is not None:
            on_hang(last_words(why))

    watchdog = Watchdog(bark)
    if on_hang is not None:
        watchdog.start()
    started = time.monotonic()
    try:
        watchdog.expect("the engine was not loaded", job.faults.load_timeout_seconds)
        engine = load_engine()
        facts = engine.facts
        if spec.prove_engine:
            watchdog.expect(NO_STEP, job.faults.step_timeout_seconds)
            check_warm_engine(engine, tokenizer)
        watchdog.rest()
        on_ready(facts)
        _say_loaded(facts, time.monotonic() - started)
        writer.engine = facts.name(model.quantization)

        def heartbeat(progress: Progress) -> None:
            writer.stage.check()
            coordination.heartbeat(progress)

        loop = EngineLoop(
            engine,
            LoopSettings.of(spec, facts.max_model_len),
            Answers(
                job,
                tokenizer,
                max_model_len=facts.max_model_len,
                model_hash=model.hash,
                logprobs=facts.logprobs,
                held=facts.held,
            ),
            feeder,
            writer.put,
            heartbeat,
            stored=stored,
            watchdog=watchdog,
            announce=coordination.announce,
        )
        loop.run()
        watchdog.rest()
        writer.finish()
        coordination.heartbeat(loop.progress)
        if spec.shared_rows and feeder.deadline is None:
            watchdog.expect("the rows that all engines answer", job.faults.step_timeout_seconds)
            answer_shared_rows(
                spec,
                dataset.storage,
                engine,
                tokenizer,
                lambda: coordination.heartbeat(loop.progress),
            )
            watchdog.rest()
        _say_done(loop.progress)
        if keep is not None:
            keep(engine)
            engine = None
        return loop.progress
    except EngineFailed as e:
        with suppress(Exception):  # the coordinator may be gone; the engine's error matters more
            coordination.engine_failed(last_words(e.message))
        if loop is not None:
            feeder.stop()
            for unit in feeder.unfinished():
                feeder.keep(unit, unit.front)
            _commit_what_is_finished(writer)
            with suppress(Exception):
                coordination.heartbeat(loop.progress)
        raise
    finally:
        feeder.stop()
        if stored is not None:
            stored.stop()
        if engine is not None:
            watchdog.expect("the engine was not closed", _CLOSE_SECONDS)
            with suppress(Exception):  # one that failed may fail again
                engine.close()
        watchdog.stop()


def _say_loaded(facts: EngineFacts, seconds: float) -> None:
    _log.info(
        "engine loaded in %s: %s, %d KV blocks of %d tokens, context %d, %d requests at once",
        duration(seconds),
        facts.kind,
        facts.num_blocks,
        facts.block_size,
        facts.max_model_len,
        facts.max_num_seqs,
    )


def _say_done(told: Progress) -> None:
    _log.info(
        "done: %d rows, %d of them failed; %d prompt tokens, %d of answers, %d preemptions",
        told.rows,
        told.failed,
        told.prompt_tokens,
        told.completion_tokens,
        told.preemptions,
    )


def _commit_what_is_finished(writer: Writer) -> None:
    """After an engine has failed. Raises what is wrong with the storage; a coordinator that is not
    told of a commit finds its record."""
    try:
        writer.finish()
    except RackmillError:
        raise
    except Exception:
        return
