"""One worker: reads its own rows, keeps one engine full, writes its own output."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.budget.kv import KvLayout
from pipeline.data.answers import Answers
from pipeline.engine.protocol import Engine, EngineFacts
from pipeline.fleet.engine_loop import EngineLoop
from pipeline.fleet.feeder import Feeder
from pipeline.fleet.work import Coordination, Progress, WorkerSpec
from pipeline.fleet.writer import Writer
from pipeline.model.tokenizer import Tokenizer


def work(
    spec: WorkerSpec,
    coordination: Coordination,
    load_engine: Callable[[], Engine],
    on_ready: Callable[[EngineFacts], None] = lambda facts: None,
) -> Progress:
    """Work on leases until the coordinator says that all is done.

    Three threads share a unit's way: the feeder reads and tokenizes (from the start, while the
    engine loads), this thread admits and steps, the writer commits. Raises whatever went wrong
    in any of them.
    """
    tokenizer = Tokenizer(spec.model.path)
    writer = Writer(spec, coordination)
    feeder = Feeder(spec, tokenizer, coordination, writer.put)
    writer.start()
    feeder.start()
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
            KvLayout(
                spec.model.geometry,
                facts.block_size,
                facts.max_num_batched_tokens,
                hybrid=facts.hybrid,
            ),
            Answers(spec.job, tokenizer, max_model_len=facts.max_model_len),
            feeder,
            writer.put,
            heartbeat,
        )
        loop.run()
        writer.finish()
        coordination.heartbeat(loop.progress)
        return loop.progress
    finally:
        feeder.stop()
        if engine is not None:
            engine.close()
