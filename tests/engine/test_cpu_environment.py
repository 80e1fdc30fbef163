"""Cores of an engine on a processor, and of its parts."""

from __future__ import annotations

import pytest

from pipeline.engine.machine.host import cpu_environment


@pytest.mark.parametrize(
    ("worker", "workers", "parts", "threads", "bind"),
    [
        (0, 1, 1, "4", "0,1,2,3"),
        (1, 2, 1, "2", "2,3"),
        (0, 1, 2, "2", "0,1|2,3"),
        (1, 2, 2, "1", "2|3"),
    ],
)
def test_parts_of_an_engine_share_its_cores(
    worker: int, workers: int, parts: int, threads: str, bind: str
) -> None:
    variables = cpu_environment(worker, workers, range(4), (), parts=parts)

    assert variables == {"OMP_NUM_THREADS": threads, "VLLM_CPU_OMP_THREADS_BIND": bind}
