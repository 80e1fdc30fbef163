"""llama.cpp as a kind of engine: a server that runs already, or one that is started here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.engine.gpu.usable import offer
from pipeline.engine.http.kind import check_answer_shape as check_answer_shape
from pipeline.engine.http.kind import connect
from pipeline.engine.http.kind import load as load_served
from pipeline.engine.llama_cpp.binary import find_binary
from pipeline.engine.llama_cpp.flags import flags
from pipeline.engine.llama_cpp.server import LlamaProcess
from pipeline.engine.machine.host import available_memory, cores_for
from pipeline.engine.protocol import SEAT, SEATS, Engine
from pipeline.job.job import Job
from pipeline.model.folder import ModelFolder
from pipeline.model.store.resolve import gguf_of


def load(
    job: Job, arguments: Mapping[str, Any], model: ModelFolder, say: Callable[[str], None]
) -> Engine:
    """Raises EngineFailed."""
    settings = job.engine
    if settings.urls:
        return load_served(job, arguments, model, say)
    binary = find_binary(settings.server)
    given = settings.model_file
    file = gguf_of(job.model, model) if given in (None, "auto") else given
    number, engines = int(os.environ.get(SEAT, 0)), int(os.environ.get(SEATS, 1))
    mine = cores_for(number % engines, engines)
    if engines > 1:  # what it starts stays there, too
        os.sched_setaffinity(0, mine)
    taken = any(one.computes for one in job.engines) and bool(offer().gpus)  # by vLLM
    devices = [] if taken else binary.devices()
    # a card for each of several engines; a single one takes all that there are
    card = devices[number % len(devices)] if engines > 1 and devices else None
    command = flags(
        model.geometry,
        context=settings.max_model_len,
        slots=settings.max_num_seqs,
        cores=len(mine),
        memory=available_memory() // engines,
        device="none" if taken else card,
        on_card=bool(devices),
    )
    where = ", ".join(devices) or "the processor"
    say(f"starts {binary.path.name} on {where} with {file}")
    process = LlamaProcess(binary, [*command, "--model", str(file)])
    try:
        process.wait(job.faults.load_timeout_seconds)
        return connect(job, model, say, process.url, process.key, process.end)
    except BaseException:
        process.end()
        raise
