"""Drives vLLM's scheduler with ours of a row's questions, without a model: which tokens each block
holds is kept here, so that a request that reads another's is found. Asked for by
``tests.simulate.scheduler_probe``, a process of its own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.simulate.scheduler_probe import RealScheduler
from tests.simulate.workloads import Workload

_BLOCK = 32
_ROOMY = Workload("questions", "270m", _BLOCK, 4000, 64, 2048, dense=True)


@dataclass(frozen=True)
class Case:
    name: str
    workload: Workload = _ROOMY
    rows: int = 30
    text: tuple[int, int] = (10, 150)  # tokens of a row's own text
    aborted: float = 0.0  # of the requests, at each step
    answers: tuple[int, int] = (1, 1)
    repeated: float = 0.2  # of the texts
    scored: float = 0.0  # of the requests: their prompts have to be computed whole
    in_rows: bool = True  # whether the scheduler is told which requests are of one row


CASES = [
    Case("alone", in_rows=False),
    Case("in rows"),
    Case("few at a time", replace(_ROOMY, max_num_seqs=4), repeated=0),
    Case("few at a time, alone", replace(_ROOMY, max_num_seqs=4), repeated=0, in_rows=False),
    Case("beyond the window", replace(_ROOMY, window=64), text=(50, 300)),
    Case("far beyond it", replace(_ROOMY, window=64), text=(50, 200), answers=(1, 90)),
    Case("hardly a cache", replace(_ROOMY, blocks=60), text=(1, 30)),
    Case("hardly a cache, alike", replace(_ROOMY, blocks=48), text=(20, 22)),
    Case("a small cache", replace(_ROOMY, blocks=90), text=(50, 300)),
    Case("a small cache, longer answers", replace(_ROOMY, blocks=120), answers=(1, 60)),
    Case("chunked", replace(_ROOMY, chunk=64, max_num_seqs=8), text=(50, 300)),
    Case("given up", replace(_ROOMY, blocks=200), aborted=0.05, answers=(1, 20)),
    Case("scored", replace(_ROOMY, max_num_seqs=4), text=(1, 5), scored=0.3),
    Case("one group", replace(_ROOMY, hybrid=False, blocks=60), aborted=0.02),
    Case("no prefix cache", replace(_ROOMY, caching=False)),
]


class Probe:
    def __init__(self, case: Case, folder: Path, seed: int) -> None:
        more = {"scheduler_cls": "pipeline.engine.vllm.row_scheduler.RowScheduler"}
        self._real = RealScheduler(case.workload, folder, **more)
        self._scheduler = self._real.scheduler
        self._case = case
        self._dice = random.Random(f"{case.name} {seed}")
        self._held: dict[int, list[int]] = {}  # block -> what stands there
        self._prompts: list[list[int]] = []
        self._scored: set[str] = set()
        self.computed = 0

    def drive(self) -> dict[str, Any]:
        self._ask()
        pool = self._scheduler.kv_cache_manager.block_pool
        free = pool.get_num_free_blocks()
        ended = aborted = steps = 0
        while self._real.unfinished():
            steps += 1
            assert steps < 20_000, "it stands still"
            aborted += self._give_up()
            ended += self._step()
        assert pool.get_num_free_blocks() == free
        assert not self._scheduler._rows
        assert ended + aborted == len(self._prompts)
        return {"computed": self.computed, "least": self._least(), "steps": steps}

    def _ask(self) -> None:
        dice, case = self._dice, self._case
        instructions = [dice.randrange(1000) for _ in range(20 if case.scored else 75)]
        questions = [[dice.randrange(1000) for _ in range(dice.randint(3, 40))] for _ in range(5)]
        for row in range(case.rows):
            text = [dice.randrange(1000) for _ in range(dice.randint(*case.text))]
            if dice.random() < case.repeated and self._prompts:
                text = self._text  # the same text again, while others may read it
            self._text = text
            for question in dice.sample(questions, dice.randint(1, 5)):
                number = len(self._prompts)
                self._prompts.append([*instructions, *text, *question])
                more: dict[str, Any] = {"extra_args": {"row": row}} if case.in_rows else {}
                if dice.random() < case.scored:
                    more["prompt_logprobs"] = 1
                self._real.ask(number, self._prompts[-1], dice.randint(*case.answers), **more)

    def _give_up(self) -> int:
        from vllm.v1.request import RequestStatus

        here = list(self._scheduler.requests)
        gone = [name for name in here if self._dice.random() < self._case.aborted]
        self._scheduler.finish_requests(gone, RequestStatus.FINISHED_ABORTED)
        return len(gone)

    def _step(self) -> int:
        scheduler = self._scheduler
        output = scheduler.schedule()
        self._copy(output.kv_cache_block_copies or ())
        for name, number in output.num_scheduled_tokens.items():
            request = scheduler.requests[name]
            self.computed += number
            if request.sampling_params.prompt_logprobs and name not in self._scored:
                assert number == request.num_computed_tokens, "it began in the midst"
                self._scored.add(name)
            self._write(request, request.num_computed_tokens - number)
        for name in output.num_scheduled_tokens:
            self._read(scheduler.requests[name])
        running = [r for r in scheduler.running if not r.sampling_params.prompt_logprobs]
        rows = [more["row"] for r in running if (more := r.sampling_params.extra_args)]
        if scheduler.kv_cache_manager.enable_caching:
            assert len(rows) == len(set(rows)), "two of a row at once"
        before = len(scheduler.requests)
        self._real.sampled(output)
        return before - len(scheduler.requests)

    def _blocks(self, request: Any) -> tuple[list[int], ...]:
        return tuple(self._scheduler.kv_cache_manager.get_block_ids(request.request_id))

    def _write(self, request: Any, start: int) -> None:
        known = _chained(request.all_token_ids[: request.num_computed_tokens])
        for blocks in self._blocks(request):
            for place in range(start, request.num_computed_tokens):
                block = self._held.setdefault(blocks[place // _BLOCK], [0] * _BLOCK)
                block[place % _BLOCK] = known[place]

    def _copy(self, copies: Sequence[Any]) -> None:
        for one in copies:
            self._held[one.dst_block_id] = list(self._held[one.src_block_id])

    def _read(self, request: Any) -> None:
        """Every token that it attends to is there, in each group as far as its window reaches."""
        known = _chained(request.all_token_ids[: request.num_computed_tokens])
        managers = self._scheduler.kv_cache_manager.coordinator.single_type_managers
        for group, blocks in enumerate(self._blocks(request)):
            first = managers[group].get_num_skipped_tokens(request.num_computed_tokens - 1)
            for place in range(first, request.num_computed_tokens):
                block = self._held[blocks[place // _BLOCK]]
                assert block[place % _BLOCK] == known[place], (request.request_id, group, place)

    def _least(self) -> int:
        """Tokens to compute if nothing were computed twice but the last token of a prompt."""
        seen: set[int] = set()
        least = 0
        for prompt in self._prompts:
            known = _chained(prompt)
            least += sum(chain not in seen for chain in known[:-1]) + 1
            seen.update(known)
        return least


def _chained(ids: Sequence[int]) -> list[int]:
    """For each token a number of it and of all before it."""
    found, chain = [], 0
    for token in ids:
        chain = hash((chain, token))
        found.append(chain)
    return found


def drives(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What came of each of ``CASES``, three times. ``folder``: of the model's configuration."""
    return {c.name: [Probe(c, folder, seed).drive() for seed in range(3)] for c in CASES}
