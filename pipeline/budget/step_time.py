"""How long one step of an engine takes, from what the step computes.

Two answers behind one protocol: the card's roofline, for an engine that nobody has measured, and
a calibration (`rackmill calibrate`), for one that somebody has. Pure arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

from pipeline.budget.cards.lookup import Card
from pipeline.budget.roofline import exchange_seconds
from pipeline.budget.weights import linear_parameters
from pipeline.errors import UsageError
from pipeline.model.geometry import Geometry


@dataclass(frozen=True, slots=True)
class StepWork:
    """What one step computes, or the sum over several. All but ``steps`` in tokens.

    ``sequences`` decode: one token each, which attends to ``context`` tokens in global layers
    and to ``window`` in sliding ones (sums over the sequences). ``prefill_tokens`` of prompts
    are computed, attending to ``prefill_context`` and ``prefill_window`` (sums over the tokens).
    ``prefills``: the prompts that end in this step; each gives a token too. ``added``: the
    requests that the engine schedules for the first time. ``steps``: how many were summed.
    """

    sequences: int = 0
    context: int = 0
    window: int = 0
    prefill_tokens: int = 0
    prefill_context: int = 0
    prefill_window: int = 0
    prefills: int = 0
    added: int = 0
    steps: int = 1

    def __add__(self, other: StepWork) -> StepWork:
        return StepWork(
            self.sequences + other.sequences,
            self.context + other.context,
            self.window + other.window,
            self.prefill_tokens + other.prefill_tokens,
            self.prefill_context + other.prefill_context,
            self.prefill_window + other.prefill_window,
            self.prefills + other.prefills,
            self.added + other.added,
            self.steps + other.steps,
        )


def attended(start: int, tokens: int, window: int | None = None) -> int:
    """Tokens attended to by ``tokens`` of a prompt from position ``start`` on, each by itself and
    all before it, at most ``window`` of them; summed."""
    end = start + tokens
    if window is None or end <= window:
        return (start + 1 + end) * tokens // 2
    if start >= window:
        return window * tokens
    return attended(start, window - start) + window * (end - window)


class StepTime(Protocol):
    """Seconds of an engine's steps."""

    def seconds(self, work: StepWork) -> float:
        """Of all ``work.steps`` steps together.

        Several steps may be summed where they are alike (the same sequences decoding): each is
        then taken for their mean.
        """


# What engines reach of a card's data sheet. Reading weights and cache: 75-85 % of the bandwidth
# in decode kernels (Marlin's paper, arXiv 2408.11743, figures 1 and 9). Multiplying: 60-70 % of
# the dense tensor rate in large int4 products and less in small ones and in attention.
_BANDWIDTH_REACHED = 0.78
_FLOPS_REACHED = 0.55
# From the machine's memory, for weights that are kept there (``cpu_offload_gb``): 8 lanes of PCIe
# 4.0, or 16 of 3.0, carry 16 GB/s, of which three quarters are taken to arrive. Not measured.
_MACHINE_BANDWIDTH = 12e9
# Scheduling, launching, sampling, handing over: what a step costs when it computes next to
# nothing, and what each sequence adds on the host (vLLM's input batch and output processing).
_STEP_SECONDS = 1.5e-3
_SEQUENCE_SECONDS = 8e-6
_QUERY_TILE = 64  # prompt tokens that share one reading of the cache in an attention kernel


@dataclass(frozen=True)
class RooflineTime:
    """Steps of a card by its data sheet, at the shares of it that engines reach.

    ``weights_bytes``: all of the text model. ``dtype_bytes``: of a key or value in the cache.
    ``cards``: that share each layer, and wait for each other. Prefill and decode share a step, and
    its bytes and its operations overlap: the longer of the two counts. ``offloaded_bytes``: of the
    weights of each card, kept in the machine's memory and read from there in every step.
    """

    geometry: Geometry
    weights_bytes: int
    card: Card
    dtype_bytes: float = 2
    cards: int = 1
    offloaded_bytes: int = 0
    bandwidth_reached: float = _BANDWIDTH_REACHED
    flops_reached: float = _FLOPS_REACHED
    step_seconds: float = _STEP_SECONDS
    sequence_seconds: float = _SEQUENCE_SECONDS

    def seconds(self, work: StepWork) -> float:
        g = self.geometry
        tokens = work.sequences + work.prefill_tokens
        samples = work.sequences + work.prefills
        read = g.n_global * work.context + g.n_sliding * work.window
        prefill = g.n_global * work.prefill_context + g.n_sliding * work.prefill_window
        cached = self._kv_bytes * (read + prefill / _QUERY_TILE)
        away = min(self.offloaded_bytes, self.weights_bytes // self.cards)
        bytes_ = work.steps * (self.weights_bytes - away * self.cards) + cached
        attended = self._attention_flops * (read + prefill)
        flops = self._token_flops * tokens + self._head_flops * samples + attended
        busy = max(bytes_ / self._bandwidth, flops / self._flops)
        busy += exchange_seconds(g, tokens, samples, self.cards, steps=work.steps)
        busy += work.steps * away / _MACHINE_BANDWIDTH
        return busy + work.steps * self.step_seconds + samples * self.sequence_seconds

    @cached_property
    def _bandwidth(self) -> float:
        return self.card.bandwidth * self.bandwidth_reached * self.cards

    @cached_property
    def _flops(self) -> float:
        return self.card.bf16_flops * self.flops_reached * self.cards

    @cached_property
    def _kv_bytes(self) -> float:
        """Of one token in one layer, on all cards: each has one head at least."""
        return (
            2 * max(self.geometry.kv_heads, self.cards) * self.geometry.head_dim * self.dtype_bytes
        )

    @cached_property
    def _token_flops(self) -> int:
        return 2 * linear_parameters(self.geometry)

    @cached_property
    def _head_flops(self) -> int:
        return 2 * self.geometry.vocabulary * self.geometry.hidden

    @cached_property
    def _attention_flops(self) -> int:
        """Of one token attending to one token in one layer: its score and the weighted sum."""
        return 4 * self.geometry.query_heads * self.geometry.head_dim


@dataclass(frozen=True)
class ScoringTime:
    """Steps of an engine that scores: each token of a prompt goes through the output head."""

    inner: StepTime

    def seconds(self, work: StepWork) -> float:
        return self.inner.seconds(replace(work, prefills=work.prefill_tokens))


@dataclass(frozen=True)
class ScaledTime:
    """Steps that take ``factor`` times as long as ``inner`` says."""

    inner: StepTime
    factor: float

    def seconds(self, work: StepWork) -> float:
        return self.factor * self.inner.seconds(work)


CALIBRATION_VERSION = 1
_PLAIN = ("step", "context", "window", "prefill_context", "prefill_window", "added")
_RAMPS = ("tokens", "samples")


@dataclass(frozen=True)
class Knots:
    """Numbers of tokens in a step beyond which a further one may cost another amount (kernels
    change there): of tokens computed, and of tokens given out. Each rises from 0."""

    tokens: tuple[int, ...] = (0, 8, 32, 128, 512)
    samples: tuple[int, ...] = (0, 8, 32, 128)

    def features(self, work: StepWork) -> list[float]:
        """What a step's seconds are a weighted sum of; ``names`` says what each is.

        Beside plain counts: ``tokens>k``, the tokens computed beyond the k-th up to the next
        knot, and the same for ``samples``, the tokens given out (the output head's work). With
        weights that are not negative the time is piecewise linear in both and grows with both.
        """
        steps = work.steps
        tokens = (work.sequences + work.prefill_tokens) / steps
        samples = (work.sequences + work.prefills) / steps
        return [
            float(steps),
            float(work.context),
            float(work.window),
            float(work.prefill_context),
            float(work.prefill_window),
            float(work.added),
            *(steps * part for part in _ramps(tokens, self.tokens)),
            *(steps * part for part in _ramps(samples, self.samples)),
        ]

    @property
    def names(self) -> tuple[str, ...]:
        of_tokens = (f"tokens>{knot}" for knot in self.tokens)
        return (*_PLAIN, *of_tokens, *(f"samples>{knot}" for knot in self.samples))


def _ramps(value: float, knots: Sequence[int]) -> list[float]:
    ends = [*knots[1:], float("inf")]
    return [max(0.0, min(value, end) - knot) for knot, end in zip(knots, ends, strict=True)]


@dataclass(frozen=True)
class CalibratedTime:
    """Steps of an engine that was measured. ``costs``: seconds for one of each feature."""

    costs: Mapping[str, float]
    knots: Knots = Knots()

    def seconds(self, work: StepWork) -> float:
        values = self.knots.features(work)
        return sum(cost * values[place] for place, cost in self._paid)

    @cached_property
    def _paid(self) -> tuple[tuple[int, float], ...]:
        names = self.knots.names
        return tuple((i, c) for i, name in enumerate(names) if (c := self.costs.get(name, 0.0)))

    def as_json(self) -> dict[str, Any]:
        """Plain data that ``from_json`` reads."""
        return {
            "rackmill_calibration": CALIBRATION_VERSION,
            "knots": {"tokens": list(self.knots.tokens), "samples": list(self.knots.samples)},
            "seconds_for": dict(self.costs),
        }

    @classmethod
    def from_json(cls, content: object, where: str) -> CalibratedTime:
        """From a calibration file's content; further keys do not matter here.

        Raises UsageError, naming the file ``where`` and how to get a good one.
        """
        version = content.get("rackmill_calibration") if isinstance(content, Mapping) else None
        if not isinstance(content, Mapping) or version is None:
            raise _unusable(where, "is no calibration")
        if version != CALIBRATION_VERSION:
            raise _unusable(where, f"is of version {version!r}, not {CALIBRATION_VERSION}")
        try:
            knots = Knots(*(tuple(int(k) for k in content["knots"][name]) for name in _RAMPS))
            costs = {str(name): float(cost) for name, cost in content["seconds_for"].items()}
        except KeyError as e:
            raise _unusable(where, f"lacks {e}") from None
        except (TypeError, ValueError, AttributeError) as e:
            raise _unusable(where, f"cannot be read: {e}") from None
        if any(
            not k or k[0] != 0 or list(k) != sorted(set(k)) for k in (knots.tokens, knots.samples)
        ):
            raise _unusable(where, "has knots that do not rise from 0")
        unknown = sorted(set(costs) - set(knots.names))
        if unknown:
            raise _unusable(where, f"has an unknown cost {unknown[0]!r}")
        if any(not 0 <= cost < float("inf") for cost in costs.values()):
            raise _unusable(where, "has a cost that is negative or no number")
        if not any(costs.values()):
            raise _unusable(where, "says that steps take no time")
        return cls(costs, knots)


def _unusable(where: str, what: str) -> UsageError:
    return UsageError(f"calibration: {where} {what}", "make one: rackmill calibrate MODEL")
