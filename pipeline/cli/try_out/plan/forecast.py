"""Time, fit, energy, cost and levers of a plan, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.budget.cards.lookup import in_slot, times
from pipeline.budget.fit.assess import Fit, gb
from pipeline.budget.predict import Prediction
from pipeline.driver.forecast.types import Forecast, GroupForecast
from pipeline.humanize import count, duration, money, plural, size

_OURS = "cpu_compute"  # the one engine argument that is not vLLM's
_APART = 1.5  # ratio of runs' times; above it, a single number would be too precise
_BASES = {
    "measured": "learned from {runs} of this shape",
    "scaled": "scaled from {runs} of another shape",
    "roofline": "from the roofline: nothing was measured here yet",
}


def cards_in_words(forecast: Forecast) -> str:
    """ "CPU", "2× RTX 3090 + 1× RTX 4090", "simulated", "llama.cpp server"."""
    groups = [placed.group for placed in forecast.placed]
    if groups[0].card is None:
        return groups[0].model or "simulated"
    if groups[0].shared:
        return groups[0].card.title
    return " + ".join(times(c.number, c.card.title, c.cards) for c in groups if c.card)


_UNKNOWN = "unknown until measured"


def time_in_words(forecast: Forecast) -> str:
    """ "about 25 s", or the likely range."""
    if forecast.unmeasured:
        return _UNKNOWN
    prediction = forecast.prediction
    low, high = prediction.bounds
    between = f"{duration(low)} to {duration(high)}"
    if prediction.basis != "measured":
        return f"{between}, a first guess"
    if prediction.apart > _APART:
        return f"{between}, as earlier runs differed"
    return f"about {duration(prediction.seconds)}"


def basis_in_words(prediction: Prediction) -> str:
    return _BASES[prediction.basis].format(runs=plural(prediction.runs, "run"))


def forecast_as_json(forecast: Forecast, fits: list[Fit]) -> dict[str, Any]:
    """The forecast as plain data: seconds, tokens, kWh, money in the currency of the prices."""
    p = forecast.prediction
    (low, high), known = p.bounds, not forecast.unmeasured
    return {
        "predicted_seconds": round(p.seconds, 1) if known else None,
        "predicted_seconds_low": round(low, 1) if known else None,
        "predicted_seconds_high": round(high, 1) if known else None,
        "prediction_basis": p.basis if known else None,
        "phases": None
        if not known
        else {
            "ready_seconds": round(p.ready_seconds, 1),
            "compile_seconds": round(p.compile_seconds, 1),
            "prompt_seconds": round(p.prompt_seconds, 1),
            "answer_seconds": round(p.answer_seconds, 1),
            "other_seconds": round(p.other_seconds, 1),
        },
        "completion_tokens": round(forecast.workload.completion_tokens * forecast.workload.rows),
        "completion_tokens_mean": round(forecast.workload.completion_tokens, 1),
        "completion_tokens_basis": forecast.answer_basis,
        "engines": [
            {
                "card": placed.group.card.name
                if placed.group.card
                else placed.group.model or "simulated",
                "card_basis": placed.group.card.guessed or None if placed.group.card else None,
                "engines": placed.group.number,
                "arguments": {k: v for k, v in placed.choice.arguments.items() if k != _OURS},
                _OURS: placed.choice.arguments.get(_OURS),
                "reasons": placed.choice.reasons,
            }
            for placed in forecast.placed
        ],
        "fit": [one.as_json() for one in fits],
        "kwh": round(forecast.kwh, 5),
        "cost": round(forecast.cost, 5),
        "levers": [
            {"what": lever.what, "predicted_seconds": round(lever.seconds, 1)}
            for lever in forecast.levers
        ],
    }


def forecast_lines(forecast: Forecast, fits: list[Fit]) -> Iterator[tuple[str, ...]]:
    """What `plan` prints: each time a heading and the lines beside it."""
    p, workload = forecast.prediction, forecast.workload
    for one, placed in zip(fits, forecast.placed, strict=False):
        yield "fit", f"{one.model} fits {one.where}" if one.fits else one.headline
        if placed.memory is not None:
            yield "", _memory(one, placed)
        if (card := placed.group.card) is not None and card.guessed:
            yield "", f"the {card.title} is not in our table: its speed is reckoned {card.guessed}"
    for placed in forecast.placed:
        reasons, group = placed.choice.reasons, placed.group
        told = [
            f"{name} {_value(name, value)}{f': {reasons[name]}' if reasons.get(name) else ''}"
            for name, value in placed.choice.arguments.items()
        ]
        if len(forecast.placed) > 1 and told:
            kind = in_slot(group.card.title, group.cards) if group.card else group.model
            told = [f"on {kind or 'simulated engines'}:", *told]
        yield "settings", *told
    if not workload.kind.startswith("score"):
        total = count(workload.completion_tokens * workload.rows)
        mean = workload.completion_tokens / workload.answers
        each = f"{workload.answers} for each row, " if workload.answers > 1 else ""
        yield (
            "answers",
            f"{each}{mean:.1f} tokens in the mean, about {total} in all "
            f"(from {forecast.answer_basis})",
        )
    if forecast.unmeasured:
        missing = f"no run on {' and '.join(forecast.unmeasured)} has been measured yet"
        yield "time", f"{_UNKNOWN}, and rows/s as well", missing
        return
    yield (
        "time",
        f"{time_in_words(forecast)} on {cards_in_words(forecast)}: until the engine is ready "
        f"{duration(p.ready_seconds)}{_compiling(p)}, prompts {duration(p.prompt_seconds)}, "
        f"answers {duration(p.answer_seconds)}, the rest {duration(p.other_seconds)}",
        basis_in_words(p),
    )
    if forecast.kwh:
        yield "costs", _costs(forecast)
    changes = [(lever.what, lever.seconds / p.seconds - 1) for lever in forecast.levers]
    yield "levers", *(f"{what}: {change:+.0%} of the time" for what, change in changes)


def _memory(one: Fit, placed: GroupForecast) -> str:
    """The use of the card's memory, and how many of the job's rows fit at once: the number by which
    the settings were chosen."""
    room, choice = placed.memory, placed.choice
    assert room is not None
    announced = one.model.announced_gb
    extra = f" (announced {announced:g} GB)" if announced is not None else ""
    each = "on each card: " if one.cards > 1 else ""
    text = (
        f"{each}weights {gb(room.weights_bytes)}{extra} + overhead {gb(room.overhead.total)} + "
        f"KV cache {gb(room.kv_bytes)} of {gb(room.usable_bytes)} usable: "
        f"{count(room.num_gpu_blocks)} blocks of {room.layout.block_size} tokens"
    )
    if not choice.requests:
        return text
    return f"{text}, {plural(choice.requests, 'row')} of {choice.request_tokens} tokens at once"


def _compiling(prediction: Prediction) -> str:
    if not prediction.compile_seconds:
        return ""
    return f" ({duration(prediction.compile_seconds)} of it compiling, this once)"


def _value(name: str, value: Any) -> str:
    return size(value) if name.endswith("_bytes") else str(value)


def _costs(forecast: Forecast) -> str:
    prices = forecast.prices
    energy = forecast.kwh * prices.per_kwh
    text = f"{forecast.kwh:.3g} kWh, {money(energy)} at {prices.per_kwh:g} a kWh"
    if prices.per_gpu_hour:
        rent = forecast.cost - energy
        rented = f"{money(rent)} at {prices.per_gpu_hour:g} a GPU hour"
        text += f" + {rented} = {money(forecast.cost)}"
    return text
