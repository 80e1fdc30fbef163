"""When a job runs by itself, and who is notified: Kubernetes' CronJob terms and meaning."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pipeline.job.address import check_address
from pipeline.job.section import Section
from pipeline.job.when.cron import Cron

ConcurrencyPolicy = Literal["Allow", "Forbid", "Replace"]


Webhook = Annotated[str, Field(pattern=r"^https?://[^\s/?#]+\S*$"), AfterValidator(check_address)]


class Notify(Section):
    """Who is notified when a run has ended. ``webhook``: gets the summary as a JSON POST, signed
    with ``$RACKMILL_WEBHOOK_SECRET`` if that is set."""

    webhook: Webhook | None = None


class Schedule(Section):
    """``cron``: five fields, or a macro like ``@daily``, on the clock of ``timezone``.

    ``concurrencyPolicy``: what happens if a run is due while the previous one still runs. Forbid:
    it waits, Replace: the old one ends, Allow: both run. ``startingDeadlineSeconds``: a run that
    could not begin within so many seconds of its time is missed (null: it begins however late).
    ``suspend``: with this file, no run begins.
    """

    cron: str
    timezone: str = "UTC"
    concurrencyPolicy: ConcurrencyPolicy = "Forbid"  # noqa: N815 - Kubernetes' word
    startingDeadlineSeconds: Annotated[float, Field(gt=0)] | None = None  # noqa: N815
    suspend: bool = False
    notify: Notify = Notify()

    @model_validator(mode="after")
    def _comes_true(self) -> Self:
        Cron(self.cron, self.timezone)
        return self
