"""Random workloads that the real scheduler and our model of it are both driven through."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pipeline.budget.kv_layout import KvLayout
from pipeline.model.catalogue import MODELS

MAX_MODEL_LEN = 8192


@dataclass(frozen=True)
class Arrival:
    """A request, added before step ``step``. ``ids``: its prompt."""

    step: int
    ids: tuple[int, ...]
    output_tokens: int


@dataclass(frozen=True)
class Workload:
    """``prompt``, ``output``: lengths from and to, tokens. ``blocks``: of the pool, usable ones.

    ``shared``: lengths of prefixes that the prompts begin with, one in two has none.
    ``window``: instead of the model's own.
    """

    name: str
    model: str = "27b"
    block_size: int = 16
    blocks: int = 700
    max_num_seqs: int = 16
    chunk: int = 256
    hybrid: bool = True
    dense: bool = False
    caching: bool = True
    window: int = 0
    requests: int = 40
    prompt: tuple[int, int] = (10, 120)
    output: tuple[int, int] = (5, 90)
    shared: tuple[int, ...] = ()
    every: int = 0  # steps between arrivals; 0: all at once
    seed: int = 0

    @property
    def layout(self) -> KvLayout:
        geometry = MODELS[f"gemma-3-{self.model}"].geometry
        if self.window:
            geometry = replace(geometry, sliding_window=self.window)
        return KvLayout(geometry, self.block_size, self.chunk, hybrid=self.hybrid)

    def arrivals(self) -> list[Arrival]:
        rng = random.Random(f"{self.name} {self.seed}")
        prefixes = [tuple(rng.randrange(1000) for _ in range(n)) for n in self.shared]
        found = []
        for i in range(self.requests):
            own = rng.randint(*self.prompt)
            ids = tuple(rng.randrange(1000) for _ in range(own))
            if prefixes and rng.random() < 0.8:
                ids = rng.choice(prefixes) + ids
            found.append(Arrival(i * self.every, ids, rng.randint(*self.output)))
        return found


SHORT = [
    Workload("27b tight"),
    Workload("27b loose", blocks=5000, max_num_seqs=64),
    Workload("27b dense", dense=True),
    Workload("27b hybrid off", hybrid=False, blocks=90),
    Workload("no prefix cache", caching=False),
    Workload("few seqs", max_num_seqs=3, blocks=400),
    Workload("chunked prompts", chunk=48, prompt=(30, 300), blocks=900),
    Workload("shared prefixes", shared=(100, 37, 160), requests=60, every=2),
    Workload("shared prefixes, hybrid off", shared=(100, 37), hybrid=False, blocks=100),
    Workload("beyond the window", window=64, prompt=(20, 200), output=(20, 200), blocks=500),
    Workload("beyond it, dense", window=64, prompt=(20, 200), output=(20, 200), dense=True),
    Workload("beyond it, shared", window=48, shared=(150, 90, 40), blocks=450, every=3),
    Workload("beyond it, shared, dense", window=48, shared=(150, 90), blocks=420, dense=True),
    Workload("beyond it, chunked", window=80, chunk=40, prompt=(100, 300), blocks=420),
    Workload("the real window", model="4b", prompt=(300, 1500), output=(20, 120), blocks=1100),
    Workload("270m", model="270m", block_size=32, prompt=(300, 700), blocks=300),
    Workload("12b, one at a time", model="12b", every=7, blocks=400),
]


def long_ones() -> list[Workload]:
    """Every mix of what decides, 90 of them."""
    rng = random.Random(7)
    found = []
    for i in range(90):
        window = rng.choice((32, 48, 64, 100, 0))
        block_size = rng.choice((16, 16, 32, 128 if not window else 16))
        hybrid = rng.random() < 0.8
        top = rng.choice((60, 200, 600))
        blocks = rng.choice((1.0, 1.4, 3)) * (top + 350) / block_size * (8 if hybrid else 1)
        found.append(
            Workload(
                f"mix {i}",
                model=rng.choice(("27b", "12b", "4b", "270m", "1b")),
                block_size=block_size,
                blocks=int(blocks) + 20,
                max_num_seqs=rng.choice((2, 8, 16, 64)),
                chunk=rng.choice((64, 256, 2048)),
                hybrid=hybrid,
                dense=rng.random() < 0.4,
                caching=rng.random() < 0.9,
                window=window,
                requests=60,
                prompt=(1, top),
                output=(1, rng.choice((20, 150))),
                shared=rng.choice(((), (120,), (33, 70), (16, 32, 200))) if top < 600 else (),
                every=rng.choice((0, 0, 1, 5)),
                seed=i,
            )
        )
    return found


Row = dict[str, Any]


def drive(
    workload: Workload,
    add: Callable[[int, Arrival], None],
    step: Callable[[dict[int, int]], Row],
    unfinished: Callable[[], int],
) -> list[Row]:
    """Rows of ``step``, one a step, until all is done. ``step`` is told each one's length."""
    arrivals = workload.arrivals()
    lengths = {i: arrival.output_tokens for i, arrival in enumerate(arrivals)}
    rows: list[Row] = []
    coming = 0
    while coming < len(arrivals) or unfinished():
        while coming < len(arrivals) and arrivals[coming].step <= len(rows):
            add(coming, arrivals[coming])
            coming += 1
        rows.append(step(lengths))
        if len(rows) > 20_000:
            raise RuntimeError(f"{workload.name}: no end")
    return rows
