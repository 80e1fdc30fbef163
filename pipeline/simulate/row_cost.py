"""The cost of a job's row on a card's engine: simulated with as many rows as needed. Pure.

So a prediction before a run and `rackmill simulate` after it share one model of an engine's steps,
of its cache and of the order of requests.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.budget.predict import RowCost, Workload
from pipeline.budget.roofline import decode_tokens_per_second
from pipeline.budget.step_time import ScoringTime, StepTime, StepWork
from pipeline.rows.workload import Groups, Lengths, RequestShape, requests
from pipeline.simulate.card import CardSetup, CardSim

MOST_ROWS = 512  # simulated rows, at least; more if many run at once
_BATCHES = 3  # simulated rows, at least, in multiples of the requests that run at once
_ROOMY = 2.0  # multiple of the requests that may run
_MOST_TOKENS = 1 << 16  # of answers: the cost of simulating is in the steps
_SETTLED = 0.25  # of the work, at the start and at the end, in which the engine is not full


class _Phases:
    """Measures the part of the steps' time that is for prompts."""

    def __init__(self, inner: StepTime) -> None:
        self._inner = inner
        self.prompts = 0.0

    def seconds(self, work: StepWork) -> float:
        seconds = self._inner.seconds(work)
        if work.prefill_tokens:
            rest = replace(
                work, prefill_tokens=0, prefill_context=0, prefill_window=0, prefills=0, added=0
            )
            self.prompts += seconds - (self._inner.seconds(rest) if work.sequences else 0.0)
        return seconds


def shape_of_workload(workload: Workload, max_tokens: int) -> RequestShape:
    """What requests of ``workload`` share."""
    groups = None
    if workload.groups:
        share, tokens, rows, recurring = workload.groups
        groups = Groups(share, round(tokens), rows, round(recurring))
    return RequestShape(
        workload.kind,
        round(workload.shared_tokens),
        groups,
        max_tokens,
        workload.answers,
        asks=workload.asks,
    )


def row_cost(
    setup: CardSetup,
    workload: Workload,
    rows: int,
    max_tokens: int,
    most: int = MOST_ROWS,
    policy: str = "packed",
) -> RowCost:
    """Seconds of one engine per row of ``workload`` if it gets ``rows`` of them.

    ``max_tokens``: the limit of each request. ``most``: rows to simulate; further ones cost as much
    as those in the middle. ``policy``: of admission. Rows that reuse others' answers cost nothing.
    If a row can never fit the cache, the cost is that of the others.
    """
    computed = max(1, round(rows * (1 - workload.repeated)))
    held = _held(setup, workload)
    number = min(computed, _enough(workload, min(held, setup.max_num_seqs), most))
    shape = shape_of_workload(workload, max_tokens)
    prompts = Lengths(workload.prompt_slices).with_mean(workload.prompt_tokens).draw(number, 1)
    known = Lengths(workload.completion_slices, workload.longest_completion)
    each = workload.answers
    answers = known.with_mean(workload.completion_tokens / each).draw(number * each, 2)
    limit = max(max_tokens, *answers)  # rows may have their own limits
    lengths = [(prompts[place // each], answer) for place, answer in enumerate(answers)]
    made = requests(shape, lengths, workload.requests)
    time = ScoringTime(setup.step_time) if shape.scores else setup.step_time
    phases = _Phases(time)
    # with enough room for all requests the packer changes nothing, and calling it takes time
    if policy == "packed" and held > _ROOMY * setup.max_num_seqs:
        policy = "engine"
    card = CardSim(replace(setup, step_time=phases), policy, max_tokens=limit)
    card.ending = True
    card.give(made)
    done: list[tuple[float, int]] = [(0.0, 0)]
    while card.busy:
        card.step()
        done.append((card.now, card.computed_tokens))
    if not card.now:  # nothing fits: the least that a row could cost
        return RowCost(setup.step_time.seconds(StepWork(sequences=1)), 0.0)
    seconds = card.now
    if computed > number:
        seconds += (computed - number) / number * _steady_seconds(done)
    prompt_share = phases.prompts / card.now
    cost = seconds / max(rows, 1)
    return RowCost(cost * prompt_share, cost * (1 - prompt_share))


def least_answer_seconds(setup: CardSetup, workload: Workload, rows: int) -> float:
    """The time in which one engine with ``rows`` rows writes a row's answers, from the card's data
    sheet only: the roofline that `fit` shows. 0 if a row's labels are looked up (they are rarely
    written token by token), or nothing is written."""
    if workload.kind == "choices" or not workload.completion_tokens:
        return 0.0
    at_once = min(_held(setup, workload), setup.max_num_seqs, rows * workload.answers)
    rate = decode_tokens_per_second(
        setup.layout.geometry,
        setup.weights_bytes,
        setup.card,
        batch=max(1, at_once),
        context=round(workload.prompt_tokens + workload.completion_tokens / workload.answers / 2),
        dtype_bytes=setup.layout.dtype_bytes,
        cards=1 if setup.card.is_cpu else setup.cards,
    )
    return workload.completion_tokens * (1 - workload.repeated) / rate


def _held(setup: CardSetup, workload: Workload) -> int:
    """About how many requests the cache holds."""
    answer = workload.completion_tokens / workload.answers
    others = sum(sorted(workload.asks)[:-1])  # each is requested separately
    tokens = max(1, round(workload.prompt_tokens - others + answer / 2))
    shared = min(round(workload.shared_tokens), tokens)
    return setup.layout.requests(setup.pool_blocks, tokens, shared)


def _enough(workload: Workload, at_once: int, most: int) -> int:
    """Rows to simulate: ``most``, fewer if answers are long and more if many run at once."""
    affordable = int(_MOST_TOKENS / max(workload.completion_tokens, 1.0))
    batches = _BATCHES if affordable > _BATCHES * at_once else 1.5
    return max(min(most, affordable), round(batches * at_once), 1)


def _steady_seconds(done: list[tuple[float, int]]) -> float:
    """The time for all the work at the rate of its middle half. ``done``: (seconds, tokens computed
    until then)."""
    whole = done[-1][1]
    low, high = (_at(done, share * whole) for share in (_SETTLED, 1 - _SETTLED))
    return (high - low) / (1 - 2 * _SETTLED)


def _at(done: list[tuple[float, int]], tokens: float) -> float:
    """The time when so many tokens were computed."""
    before, begun = 0.0, 0
    for seconds, computed in done:
        if computed >= tokens:
            part = (tokens - begun) / (computed - begun) if computed > begun else 0.0
            return before + part * (seconds - before)
        before, begun = seconds, computed
    return before
