"""The loop between feeder and engine, step by step: rows are handed over by the test."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline.budget.kv_layout import KvLayout
from pipeline.engine.simulated.engine import SimulatedEngine
from pipeline.input.units import Unit, part
from pipeline.job.engine import SimulatedEngineSettings
from pipeline.job.sampling import Sampling
from pipeline.output.columns.results import RowResult
from pipeline.prompt.join import Prompt
from pipeline.rows.request import Completion, Request
from pipeline.worker.engine_loop.engine_loop import EngineLoop
from pipeline.worker.engine_loop.loop_settings import LoopSettings
from pipeline.worker.engine_loop.watchdog import Watchdog
from pipeline.worker.open_unit import OpenUnit, ReadyRow
from tests.support.samples import GEMMA_270M

BLOCKS, BLOCK_TOKENS = 64, 16
LAYOUT = KvLayout(GEMMA_270M, BLOCK_TOKENS, 64)
STEP_SECONDS = 2.0
_ids = itertools.count()


def unit(rows: int, start: int = 0) -> OpenUnit:
    return OpenUnit(Unit(f"u{start}", 0, start, start + rows), pa.table({"id": range(rows)}))


def row(of: OpenUnit, number: int, tokens: int = 8) -> ReadyRow:
    return ReadyRow(of, number, Prompt([number + 1] * tokens, "", Sampling()))


@dataclass
class Source:
    """Hands over these rows, and is exhausted when there are no more."""

    rows: list[ReadyRow]
    units: list[OpenUnit] = field(default_factory=list)
    whole: list[OpenUnit] = field(default_factory=list)
    deadline: float | None = None
    more_to_come = False
    ending = False
    errors: dict[str, int] = field(default_factory=dict)

    @property
    def exhausted(self) -> bool:
        return not (self.rows or self.more_to_come)

    def take(self, wait_seconds: float = 0.0) -> ReadyRow | None:
        return self.rows.pop(0) if self.rows else None

    def begin(self, ready: ReadyRow) -> bool:
        if ready.row >= ready.unit.unit.rows:
            return False
        ready.unit.begun = max(ready.unit.begun, ready.row + 1)
        return True

    def unfinished(self) -> list[OpenUnit]:
        return [one for one in self.units if not one.whole]

    def keep(self, opened: OpenUnit, rows: int) -> None:
        of = opened.unit
        if rows < of.rows and opened.shrink(part(of, of.start, of.start + rows)) and rows:
            self.whole.append(opened)


class Text:
    """One request, whose text is the answer."""

    def __init__(self, prompt: Prompt) -> None:
        self.prompt = prompt
        self.result: RowResult | None = None

    def start(self) -> list[Request]:
        return [Request(next(_ids), self.prompt.ids, self.prompt.sampling)]

    def receive(self, completion: Completion) -> list[Request]:
        tokens = len(self.prompt.ids)
        self.result = RowResult(
            completion=completion.text, prompt_tokens=tokens, error=completion.error
        )
        return []


class Longer(Text):
    """As of choices: when a request is answered, there is another that is longer by a token."""

    def receive(self, completion: Completion) -> list[Request]:
        if completion.error is not None:
            return super().receive(completion)
        return [Request(next(_ids), [*self.prompt.ids, 5], self.prompt.sampling)]


class Answers:
    """As a job's; ``key``: of rows that ask the same."""

    def __init__(self, kind: Callable[[Prompt], Any], key: Callable[[Prompt], bytes | None]):
        self.answer, self.key = kind, key


class Here:
    """A loop over ``rows``, with an engine of the test's."""

    def __init__(
        self,
        rows: Iterable[ReadyRow],
        kind: Callable[[Prompt], Any] = Text,
        key: Callable[[Prompt], bytes | None] = lambda prompt: None,
        *,
        seqs: int = 8,
        after_step: Callable[[], None] = lambda: None,
    ) -> None:
        waiting = list(rows)
        units = {id(ready.unit): ready.unit for ready in waiting}
        self.source = Source(waiting, list(units.values()))
        engine = SimulatedEngine(
            SimulatedEngineSettings(num_blocks=BLOCKS, output_tokens=3),
            LAYOUT,
            max_model_len=4096,
            max_num_seqs=seqs,
        )
        self.now = 0.0
        self.watchdog = Watchdog(lambda why: None, clock=lambda: self.now)
        self.steps = 0
        step = engine.step

        def counted() -> Any:
            self.steps += 1
            done = step()
            after_step()
            return done

        engine.step = counted  # type: ignore[method-assign]
        answers: Any = Answers(kind, key)
        source: Any = self.source
        self.engine = engine
        self.loop = EngineLoop(
            engine,
            LoopSettings(GEMMA_270M, longest_answer=16, step_timeout_seconds=STEP_SECONDS),
            answers,
            source,
            self.source.whole.append,
            lambda progress: None,
            watchdog=self.watchdog,
        )


def test_nothing_is_expected_of_an_engine_whose_last_waiting_row_was_given_up() -> None:
    both = unit(2)
    first, second = row(both, 0), row(both, 1)

    def give_up_the_second() -> None:
        both.shrink(part(both.unit, 0, 1))

    here = Here([first, second], seqs=1, after_step=give_up_the_second)
    here.loop.run()
    here.now = 1000.0

    assert here.loop.progress.rows == here.loop.progress.given_up == 1
    assert here.watchdog.overdue() is None


def test_a_row_whose_later_request_can_never_fit_is_counted_once() -> None:
    largest = next(t for t in range(1, 4096) if LAYOUT.prefill_blocks(t + 1) > BLOCKS)
    here = Here([row(unit(1), 0, largest)], Longer)
    here.loop.run()

    progress = here.loop.progress
    assert (progress.rows, progress.failed) == (1, 1)
    assert progress.prompt_tokens == largest
    assert progress.errors == {"PromptTooLong": 1}
    assert len(here.source.whole) == 1


def test_of_a_stopped_run_rows_that_waited_for_one_that_is_left_are_finished() -> None:
    """The second unit's first row asks what the first unit's last one does, and that one is left:
    without it the two rows behind it would be done again."""
    ahead, behind = unit(2), unit(3, start=2)
    asked = {id(ahead): 1, id(behind): 0}
    rows = [row(ahead, 0), row(behind, 1), row(behind, 2), row(ahead, 1), row(behind, 0)]
    for ready in rows:
        if asked[id(ready.unit)] == ready.row:
            ready.prompt.ids[:] = [7]

    def stop() -> None:
        here.source.deadline = time.monotonic() + 60

    here = Here(rows, key=lambda p: b"7" if p.ids == [7] else None, seqs=3, after_step=stop)
    here.loop.run()

    assert here.steps < 20
    assert [(of.unit.start, of.unit.rows) for of in here.source.whole] == [(0, 1), (2, 3)]
    assert all(result is not None for result in behind.results)


def test_only_so_many_rows_wait_for_the_answer_of_one() -> None:
    all_alike, long = unit(8000), Sampling(max_tokens=140, ignore_eos=True)
    rows = [ReadyRow(all_alike, n, Prompt([7] * 8, "", long)) for n in range(8000)]
    left: list[int] = []

    def look() -> None:
        if all_alike.results[0] is None:
            left.append(len(here.source.rows))

    here = Here(rows, key=lambda p: b"7", after_step=look)
    here.loop.run()

    assert min(left) >= 8000 / 3
    assert here.loop.progress.rows == 8000
    assert here.source.whole == [all_alike]


def test_tokens_are_told_as_they_come_and_counted_when_their_row_is_finished() -> None:
    told: list[tuple[int, int, int]] = []

    def look() -> None:
        progress = here.loop.progress
        told.append((progress.rows, progress.generated, progress.completion_tokens))

    long = Sampling(max_tokens=20, ignore_eos=True)
    here = Here([ReadyRow(unit(1), 0, Prompt([7] * 8, "", long))], after_step=look)
    here.loop.run()

    assert [generated for rows, generated, _ in told if not rows][-1] == 19
    assert all(completion == 0 for rows, _, completion in told if not rows)
    assert here.loop.progress.generated == 20
