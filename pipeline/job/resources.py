"""The job file's resources: which cards, when, and which timeouts and limits apply to faults."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from pipeline.job.engine import EngineSettings
from pipeline.job.section import Section
from pipeline.job.when.deadline import check_deadline
from pipeline.job.when.hours import Hours, check_hours, parse_hours


class ApiPrice(Section):
    """An API's price for a million tokens of prompts and of answers, for comparison."""

    prompt: Annotated[float, Field(ge=0)]
    completion: Annotated[float, Field(ge=0)]

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


def _by_kind(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


EngineEntry = Annotated[EngineSettings, BeforeValidator(_by_kind)]
_COUNTED = re.compile(r"^\d+\s*[x×*]|:\s*\d+$", re.IGNORECASE)  # "2x rtx3090", "rtx3090:2"


class Resources(Section):
    """``workers``: engines to run at once; auto is one on each card or slot of cards, or one
    without a GPU.

    ``gpu``: only such cards (one or several of ``rackmill fit``'s names); ``memory_gib``: only
    cards with at least so much. None: any. ``deadline``: a time with its zone, or a duration from
    the start or submission ("8h"); then the job is stopped, and what is committed stays.

    ``hours``: windows of the day in which the job may use the cards ("23:00-07:00", or several);
    ``timezone``: the zone of their clock (None: that of the machine where the run was started; for
    a submitted job, that of the rack's head). ``yield_to_desktop``: a card that a game or another
    program uses is left to it, and used again after ``desktop_quiet_seconds`` without such use.
    ``price_kwh``: the price of a kWh; ``api_price``: others' price for a million tokens.

    ``engines``: different engines that work on the job side by side, each given like ``engine`` or
    by its kind alone (the kind of ``engine``: with its settings). ``mixed``: allows them, and
    machines of a rack with an engine of their own, though their answers differ.
    """

    workers: int | Literal["auto"] = "auto"
    gpu: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    memory_gib: Annotated[float, Field(gt=0, le=1 << 20)] | None = None
    deadline: Annotated[str, BeforeValidator(check_deadline)] | None = None
    hours: Annotated[str, BeforeValidator(check_hours)] | None = None
    timezone: str | None = None
    yield_to_desktop: bool = False
    desktop_quiet_seconds: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    price_kwh: Annotated[float, Field(ge=0)] | None = None
    api_price: ApiPrice | None = None
    engines: Annotated[tuple[EngineEntry, ...], Field(min_length=1)] | None = None
    mixed: bool = False

    @model_validator(mode="after")
    def _mixed_on_purpose(self) -> Self:
        if self.engines is not None and len(self.engines) > 1 and not self.mixed:
            raise ValueError(
                "engines: unlike engines give unlike answers to some rows: say mixed: true, too"
            )
        if self.engines is not None and self.workers != "auto":
            raise ValueError(
                "workers does not go with engines: each card and each server has one of its own"
            )
        return self

    @model_validator(mode="after")
    def _hours_are_some(self) -> Self:
        if self.timezone is not None and self.hours is None:
            raise ValueError("timezone has an effect only with hours: give hours, too")
        _ = self.when
        return self

    @property
    def when(self) -> Hours | None:
        """The ``hours``; None: always."""
        return None if self.hours is None else parse_hours(self.hours, self.timezone)

    @field_validator("gpu", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        given = value if isinstance(value, list | tuple) else [value]
        if not all(isinstance(one, str) or type(one) is int for one in given):  # 3090 is a number
            return value
        names = [name.strip() for one in given for name in str(one).split(",")]
        counted = next((name for name in names if _COUNTED.search(name)), None)
        if counted is not None:
            raise ValueError(
                f"{counted!r} says how many, and this says which cards: give workers, too"
            )
        return tuple(names)

    @field_validator("workers", mode="before")
    @classmethod
    def _auto_or_a_number(cls, value: Any) -> Any:
        if value != "auto" and (type(value) is not int or not 1 <= value <= 4096):
            raise ValueError("give auto, or a number from 1 to 4096")
        return value


class Faults(Section):
    """Timeouts and limits for what goes wrong. Operational. Times in seconds.

    ``row_timeout_seconds``: counted from a row's admission to its engine, not while it waits; then
    it is an error row (null: no limit). ``step_timeout_seconds``: an engine with requests that
    makes no step for so long hangs and is restarted; ``load_timeout_seconds``: the same while it
    loads. ``grace_seconds``: how long a stopped run may finish what its engines work on.
    ``restarts``: of one card's engine without progress in between; after these the job goes on
    without the card. ``silence_seconds``: a worker that sends nothing for so long (its machine
    hangs, the network is cut) is given up and replaced.
    """

    row_timeout_seconds: Annotated[float, Field(gt=0)] | None = None
    step_timeout_seconds: Annotated[float, Field(gt=0)] = 600.0
    load_timeout_seconds: Annotated[float, Field(gt=0)] = 3600.0
    grace_seconds: Annotated[float, Field(ge=0)] = 30.0
    restarts: Annotated[int, Field(ge=0)] = 3
    silence_seconds: Annotated[float, Field(ge=3)] = 30.0
