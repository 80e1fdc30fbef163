"""What a plan will take on given cards: settings, time by phase, energy, money, and the levers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from pipeline.budget.buckets import compile_key
from pipeline.budget.cards.lookup import in_slot
from pipeline.budget.engine_arguments import (
    EngineChoice,
    choose_settings,
    scoring_arguments,
    setup_of,
    with_retention,
)
from pipeline.budget.fit.advice import refusal
from pipeline.budget.fit.assess import Fit
from pipeline.budget.fit.fit import fit
from pipeline.budget.memory_split import memory_split
from pipeline.budget.model_spec import FitOptions, ModelSpec
from pipeline.budget.predict import (
    Estimate,
    RowCost,
    Workload,
    estimate,
    predict,
)
from pipeline.budget.weights import Weights, weight_bytes
from pipeline.cluster.card_slots import Spread, spread_of
from pipeline.cluster.engine_groups import EngineGroup
from pipeline.driver.forecast.request_shape import request_shape
from pipeline.driver.forecast.types import Forecast, GroupForecast, Lever, Prices, setup_key
from pipeline.driver.plan.plan import Plan
from pipeline.errors import UsageError
from pipeline.humanize import duration
from pipeline.model.catalogue import MODELS, CatalogueModel
from pipeline.model.geometry import Geometry
from pipeline.report.profile import ProfileEntry, last_workload
from pipeline.rows.workload import Lengths
from pipeline.simulate.card import CardSetup
from pipeline.simulate.card_setup import card_setup_from
from pipeline.simulate.row_cost import MOST_ROWS, least_answer_seconds, row_cost

_log = logging.getLogger(__name__)
_ROWS_TO_TRUST = 32  # finished rows from which on their answers' length is taken for all
_RUNS_OF_WATTS = 5
_GUESS = "a guess"
_UNSEEN_ANSWER = 0.5  # of max_tokens, where no answer to such a prompt was ever seen
_READY_SECONDS = {"simulated": 8.0, "cpu": 25.0, "gpu": 60.0}  # where nothing was measured
_COMPILE_SECONDS = 60.0
_OTHER_SECONDS = 3.0
_SPREAD_REASON = "the model does not fit one card"
_SCORING_REASON = "scores take the whole vocabulary's probabilities at every token of a step"
_SIMULATED_ROW_SECONDS = 1e-4
_SIMULATED_SEQS = 256
_FEWER_ROWS = 128  # are simulated for each lever: what counts is the difference


@dataclass(frozen=True)
class Forecaster:
    """Predicts one plan. ``records``: the runs measured up to now, oldest first."""

    plan: Plan
    records: Sequence[ProfileEntry]
    prices: Prices = field(default_factory=Prices)
    model: CatalogueModel | None = None  # another one than the plan's: what if?
    simulated_rows: int = MOST_ROWS

    @property
    def _geometry(self) -> Geometry:
        return self.model.geometry if self.model else self.plan.model.geometry

    @property
    def _weights(self) -> Weights:
        model = self.plan.model
        vision = (self.model or model).vision_parameters
        return weight_bytes(self._geometry, model.precision, vision=vision)

    def forecast(self, groups: Sequence[EngineGroup]) -> Forecast:
        """The plan's missing rows on ``groups``, with the levers that would shorten it."""
        made = self._forecast(groups)
        p = made.prediction
        _log.info(
            "foretold: ready after %s, then %s of work, from %s",
            duration(p.ready_seconds),
            duration(p.work_seconds),
            p.basis,
        )
        levers = replace(self, simulated_rows=_FEWER_ROWS)._levers(groups, made)
        return replace(made, levers=tuple(levers))

    def fits(self, groups: Sequence[EngineGroup]) -> list[Fit]:
        """How the job's model fits each kind of card with the chosen settings, for requests as
        the job's are."""
        return [
            self._fit(group, self.request_tokens, self.choose(group).arguments)
            for group in groups
            if group.card is not None
        ]

    @property
    def spread(self) -> Spread:
        """How many cards an engine takes."""
        return spread_of(self.plan.job.as_computed, self._model_spec)

    def _given(self, group: EngineGroup) -> dict[str, Any]:
        """Engine arguments that the job and the slot leave no choice about."""
        several = {"tensor_parallel_size": group.cards} if group.cards > 1 else {}
        return several | group.job(self.plan.job).engine.vllm_arguments()

    def _fit(self, group: EngineGroup, tokens: int, arguments: Mapping[str, Any]) -> Fit:
        options = FitOptions.from_arguments(arguments, tokens, self._overhead(group))
        return fit(self._model_spec, group.share, options)

    @property
    def request_tokens(self) -> int:
        """Of the job's requests in the mean, with the longest answer."""
        return round(self.plan.sample.shape.mean) + self.plan.job.longest_answer

    def usable(
        self,
        groups: Sequence[EngineGroup],
        report: Callable[[str], None],
        *,
        context: int | None = None,
    ) -> list[EngineGroup]:
        """Those of ``groups`` on whose cards the job can run; of the others it is reported why not.

        ``context``: tokens of a request (None: as the job's are). Raises UsageError, in the words
        of `fit`, when it can run on none.
        """
        context = context or self.request_tokens
        left: list[EngineGroup] = []
        errors: list[UsageError] = []
        for group in groups:
            error = None
            if group.card is not None:
                error = refusal(self._fit(group, context, self._given(group)))
            if error is None:
                left.append(group)
            else:
                errors.append(error)
        if errors and not left:
            raise errors[0]
        for error in errors:
            report(f"left out: {error.message} {' '.join(error.hints)}")
        return left

    @property
    def _model_spec(self) -> ModelSpec:
        return replace(
            ModelSpec.of_folder(self.plan.model), geometry=self._geometry, weights=self._weights
        )

    def choose(self, group: EngineGroup, **given: Any) -> EngineChoice:
        """Engine arguments for one engine of ``group``; ``given`` go before the job's own."""
        job = group.job(self.plan.job)
        arguments = self._given(group) | given
        if group.card is None:
            return EngineChoice(arguments)
        scoring = scoring_arguments(job.score, arguments) if job.score else {}
        known = self.known_answers
        chosen = choose_settings(
            self._geometry,
            self._weights,
            group.share,
            self.plan.sample.shape,
            job.longest_answer,
            scoring | arguments,
            self._overhead(group),
            known.mean if known else None,
        )
        reasons = {n: _SCORING_REASON for n in scoring if n not in arguments}
        if group.cards > 1 and job.engine.tensor_parallel_size is None:
            reasons["tensor_parallel_size"] = _SPREAD_REASON
        return replace(chosen, reasons=chosen.reasons | reasons)

    def _forecast(
        self,
        groups: Sequence[EngineGroup],
        workload: Workload | None = None,
        like: Forecast | None = None,
        **given: Any,
    ) -> Forecast:
        """``like``: take over from it how far from the model of them the engines are."""
        found, basis = self._workload()
        workload = workload or found
        known = [p.estimate for p in like.placed] if like else [None] * len(groups)
        engines = sum(group.number for group in groups)
        of_one = replace(workload, rows=-(-workload.rows // engines))
        placed = tuple(
            self._place(group, of_one, estimate, **given)
            for group, estimate in zip(groups, known, strict=True)
        )
        prediction = predict(workload.rows, [(p.group.number, p.estimate) for p in placed])
        hours = prediction.seconds / 3600
        watts = sum(group.watts(self.prices.watts or self._seen_watts(group)) for group in groups)
        cards = sum(group.all_cards for group in groups)
        kwh = watts * hours / 1000
        cost = kwh * self.prices.per_kwh + cards * hours * self.prices.per_gpu_hour
        return Forecast(workload, basis, placed, prediction, kwh, cost, self.prices)

    def _place(
        self, group: EngineGroup, workload: Workload, like: Estimate | None, **given: Any
    ) -> GroupForecast:
        choice = self.choose(group, **given)
        there = None
        if group.card is not None:
            asked = setup_of(choice.arguments, group.share, self._overhead(group))
            there = memory_split(self._geometry, self._weights, group.share, asked)
        kind = "simulated" if group.card is None else "cpu" if group.shared else "gpu"
        model = self._model(group, choice)
        if like is not None:
            one = replace(like, cost=model(workload).times(like.slowdown))
        else:
            one = estimate(
                workload,
                model,
                [record.run for record in self._records(group, choice)],
                ready_seconds=_READY_SECONDS[kind],
                other_seconds=_OTHER_SECONDS,
            )
            one = replace(one, compile_seconds=self._compile_seconds(group, choice))
        if group.card is not None:
            setup = self._setup(group, choice)
            one = one.with_answers_of(least_answer_seconds(setup, workload, workload.rows))
        return GroupForecast(group, choice, there, one)

    def _compile_seconds(self, group: EngineGroup, choice: EngineChoice) -> float:
        """Of the first engine on such a card whose compiled code no earlier run has left."""
        key = compile_key(choice.arguments)
        if not group.on_cards or not key:
            return 0.0
        same = self._records(group)
        if any(r.compiled == key for r in same):
            return 0.0
        seen = [r.compile_seconds for r in same if r.compile_seconds]
        return median(seen) if seen else _COMPILE_SECONDS

    def _records(
        self, group: EngineGroup, choice: EngineChoice | None = None
    ) -> list[ProfileEntry]:
        """Of runs on such cards; ``choice``: with engines like that."""
        setup = setup_key(self.plan, group, choice)
        return [record for record in self.records if record.same_setup(**setup)]

    def _seen_watts(self, group: EngineGroup) -> float | None:
        """What such a card drew at work with this model, measured; None: that was never seen."""
        seen = [r.watts for r in self._records(group) if r.watts]
        return median(seen[-_RUNS_OF_WATTS:]) if seen else None

    def _overhead(self, group: EngineGroup) -> int | None:
        """What an engine with this model on such a card last took beside weights and cache."""
        if group.card is None or group.shared:
            return None
        seen = [r.overhead_bytes for r in self._records(group) if r.overhead_bytes]
        return seen[-1] if seen else None

    def _model(self, group: EngineGroup, choice: EngineChoice) -> Callable[[Workload], RowCost]:
        """What a row of one engine's workload costs it, nothing being measured."""
        step_seconds = group.job(self.plan.job).engine.simulated.step_seconds
        if group.card is None:
            at_once = int(choice.arguments.get("max_num_seqs", _SIMULATED_SEQS))

            def made_up(workload: Workload) -> RowCost:
                steps = workload.completion_tokens / max(1, min(at_once, workload.rows))
                seconds = _SIMULATED_ROW_SECONDS
                return RowCost(seconds, seconds + steps * step_seconds)

            return made_up
        setup = self._setup(group, choice)
        job = group.job(self.plan.job)
        longest, policy = job.longest_answer, job.engine.admission

        def simulated(workload: Workload) -> RowCost:
            rows, most = workload.rows, self.simulated_rows
            return row_cost(setup, workload, rows, longest, most, policy)

        return simulated

    def _setup(self, group: EngineGroup, choice: EngineChoice) -> CardSetup:
        return card_setup_from(
            self._geometry,
            self._weights,
            group.share,
            with_retention(choice.arguments, self.plan.job.questions),
            overhead_correction=self._overhead(group),
        )

    def _workload(self) -> tuple[Workload, str]:
        """What is still to do, and what the expected length of answers stands on."""
        plan, last = self.plan, last_workload(self.records, self.plan.template)
        sample, shape = plan.sample, request_shape(plan)
        answers, basis = self._answers()
        groups = shape.groups
        workload = Workload(
            shape.kind,
            plan.rows_left,
            sample.shape.mean,
            shape.common_tokens,
            answers.mean * shape.answers,
            sample.slices.slices,
            answers.slices,
            (groups.share, groups.tokens, groups.rows, groups.recurring) if groups else (),
            last.requests if last else max(sample.choice_requests, shape.answers),
            last.repeated if last else 0.0,
            answers.longest,
            shape.answers,
            shape.asks,
        )
        return workload, basis

    def _answers(self) -> tuple[Lengths, str]:
        """How long single answers will be, and what that stands on."""
        plan = self.plan
        each = plan.job.answers  # of a row
        if plan.job.score is not None:
            return Lengths((0.0,)), "nothing is written"
        done = plan.reused
        if done.succeeded >= _ROWS_TO_TRUST:
            mean = done.completion_tokens / done.succeeded / each
            known = Lengths.in_buckets(done.completion_lengths, mean)
            return replace(known, longest=done.longest_completion), "the rows done already"
        seen = last_workload(self.records, plan.template)
        if seen is not None:
            slices = Lengths(tuple(seen.completion_slices), seen.longest_completion)
            mean = seen.completion_tokens / each
            return slices.with_mean(mean), "the last run of this prompt"
        if plan.sample.choice_lengths:
            return Lengths.of(plan.sample.choice_lengths), "the choices"
        limit = plan.job.sampling.max_tokens
        guess = limit * _UNSEEN_ANSWER
        even = Lengths.of(range(1, limit + 1)).with_mean(guess)  # any length is as likely
        return even, f"{_GUESS}: half of max_tokens {limit}"

    @property
    def known_answers(self) -> Lengths | None:
        """How long answers are, where any was ever seen, or all that may be are known."""
        answers, basis = self._answers()
        return None if basis.startswith(_GUESS) else answers

    def _levers(self, groups: Sequence[EngineGroup], exactly: Forecast) -> list[Lever]:
        """What else would change the time: tried on the same model of the job."""
        cards = [c for c in groups if c.card is not None and not c.shared]
        workload = exactly.workload
        made = self._forecast(groups, workload, exactly)  # as roughly as the levers
        found: list[Lever | None] = []
        if cards:
            group = cards[0]
            more = [replace(group, number=group.number + 1), *(c for c in groups if c is not group)]
            assert group.card is not None
            another = in_slot(group.card.title, group.cards)
            found.append(self._lever(f"one more {another}", made, more, workload))
            if all(c.card and c.card.has_fp8_kv for c in cards):
                found.append(self._lever("KV cache in fp8", made, groups, workload,
                                         kv_cache_dtype="fp8"))  # fmt: skip
        smaller = self._next_smaller()
        if smaller is not None and made.placed[0].memory:
            other = replace(self, model=smaller)
            found.append(other._lever(f"{smaller.name} instead", made, groups, workload))
        if workload.kind == "text":
            half = replace(workload, completion_tokens=workload.completion_tokens / 2)
            found.append(self._lever("answers half as long", made, groups, half))
        if workload.new_tokens > 2 * workload.completion_tokens and made.placed[0].memory:
            half = replace(workload, prompt_tokens=workload.shared_tokens + workload.new_tokens / 2)
            found.append(self._lever("rows with half the text", made, groups, half))
        scale = exactly.prediction.seconds / made.prediction.seconds
        return [replace(lever, seconds=scale * lever.seconds) for lever in found if lever]

    def _next_smaller(self) -> CatalogueModel | None:
        smaller = [m for m in MODELS.values() if m.geometry.layers < self._geometry.layers]
        return max(smaller, key=lambda m: m.geometry.layers, default=None)

    def _lever(
        self,
        what: str,
        made: Forecast,
        groups: Sequence[EngineGroup],
        workload: Workload,
        **given: Any,
    ) -> Lever | None:
        """None for what changes nothing to speak of."""
        seconds = self._forecast(groups, workload, made, **given).prediction.seconds
        return Lever(what, seconds) if seconds < 0.97 * made.prediction.seconds else None
