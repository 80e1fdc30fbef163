"""A job's servers, asked once before anything is started that costs something."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.driver.plan.plan import Plan
from pipeline.errors import EndpointGone, EndpointSlow, EndpointUnfit, UsageError
from pipeline.humanize import count
from pipeline.job.engine import EngineSettings

Note = Callable[[str], None]


def ask_servers(plan: Plan, note: Note, *, from_here: bool = True) -> None:
    """See whether every server of the job can do it; of one that is away or busy it is said that
    the run waits for it. ``from_here``: it is this machine that asks them later, too.

    Raises UsageError for a server that cannot do the job; EndpointGone where all engines are
    servers that are away.
    """
    away: list[EndpointGone] = []
    engines = [one for named in plan.job.engines for one in named.each]
    for engine in engines:
        if not engine.urls:
            continue  # none that runs already
        try:
            _ask(plan, engine, note)
        except EndpointUnfit as e:
            raise UsageError(e.message, *e.hints) from None
        except EndpointSlow as e:
            note(f"the run waits for {e.message}")
        except EndpointGone as e:
            away.append(e)
    if from_here and away and len(away) == len(engines):
        more = [e.message for e in away[1:]]
        fix = "start it, or say where it is: engine.url"
        raise EndpointGone(away[0].message, *more, fix)
    for gone in away:
        note(f"the run waits for {gone.message}")


def _ask(plan: Plan, engine: EngineSettings, note: Note) -> None:
    from pipeline.engine.http.kind import ask  # brings aiohttp

    [url] = engine.urls
    can = ask(plan.job.with_engine(engine), plan.model, url)
    wanted, shape = engine.max_model_len, plan.sample.shape
    if wanted is not None and can.context < wanted:
        raise UsageError(
            f"engine.max_model_len: {url} has a context of {count(can.context)} tokens, not of "
            f"{count(wanted)}",
            "start it with a longer one, or ask for less",
        )
    if can.context <= shape.mean:
        raise UsageError(
            f"{url} has a context of {count(can.context)} tokens, and the job's prompts have "
            f"{shape.mean:.0f} in the mean",
            "start it with a longer one",
        )
    if can.context <= shape.longest:
        note(
            f"{url} has a context of {count(can.context)} tokens, and prompts of up to "
            f"{count(shape.longest)} were seen: such rows will be error rows"
        )
