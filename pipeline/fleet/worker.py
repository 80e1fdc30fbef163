"""One worker: reads its own rows, keeps one engine full, writes its own output."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.data.answer_store import open_answers
from pipeline.data.answers import Answers
from pipeline.engine.protocol import Engine, EngineFacts
from pipeline.fleet.answer_once import AnswerStage
from pipeline.fleet.engine_loop import EngineLoop
from pipeline.fleet.feeder import Feeder
from pipeline.fleet.work import Coordination, Progress, WorkerSpec
from pipeline.fleet.writer import Writer
from pipeline.model.tokenizer import Tokenizer
from pipeline.spec.sampling import SAMPLING_COLUMN


def work(
    spec: WorkerSpec,
    coordination: Coordination,
    load_engine: Callable[[], Engine],
    on_ready: Callable[[EngineFacts], None] = lambda facts: None,
) -> Progress:
    """Work on leases until the coordinator says that all is done.

    Threads share a unit's way: the feeder reads and tokenizes (from the start, while the engine
    loads), one looks up answers that other workers have kept, this one admits and steps, the
    writer commits. Raises whatever went wrong in any of them.
    """
    job, model = spec.job, spec.model
    tokenizer = Tokenizer(model.path)
    store = open_answers(job, model.hash)
    stored = AnswerStage(store) if store is not None else None
    writer = Writer(spec, coordination, store)
    feeder = Feeder(spec, tokenizer, coordination, writer.put)
    writer.start()
    feeder.start()
    if stored is not None:
        stored.start()
    engine: Engine | None = None
    try:
        engine = load_engine()
        facts = engine.facts
        on_ready(facts)

        def heartbeat(progress: Progress) -> None:
            writer.check()
            coordination.heartbeat(progress)

        loop = EngineLoop(
            engine,
            model.geometry,
            _longest_completion(spec, facts),
            Answers(job, tokenizer, max_model_len=facts.max_model_len, model_hash=model.hash),
            feeder,
            writer.put,
            heartbeat,
            expected_tokens=spec.expected_tokens,
            answer_once=job.duplicates.answer_once,
            stored=stored,
        )
        loop.run()
        writer.finish()
        coordination.heartbeat(loop.progress)
        return loop.progress
    finally:
        feeder.stop()
        if stored is not None:
            stored.stop()
        if engine is not None:
            engine.close()


def _longest_completion(spec: WorkerSpec, facts: EngineFacts) -> int:
    """Tokens. Rows that bring their own sampling may ask for anything that the context holds."""
    if spec.job.score is not None or (spec.job.label and spec.job.label.choices):
        return 1
    if SAMPLING_COLUMN in spec.input_schema.names:
        return facts.max_model_len
    return min(spec.job.sampling.max_tokens, facts.max_model_len)
