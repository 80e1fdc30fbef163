"""`rackmill plan`: what a run would do, whether it fits, how long it takes and what it costs."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.budget.cards.lookup import parse_gpus
from pipeline.cli.options import (
    Fresh,
    JobFile,
    Json,
    Output,
    Rows,
    Settings,
    Workers,
    load_with,
)
from pipeline.cli.terminal.console import ERR, print_json


def plan_command(
    job: JobFile,
    output: Output = None,
    rows: Rows = None,
    settings: Settings = None,
    workers: Workers = None,
    fresh: Fresh = False,
    gpus: Annotated[
        str | None, typer.Option(metavar='"4x rtx3090,…"', help="For these cards, not for mine.")
    ] = None,
    price_kwh: Annotated[
        float | None,
        typer.Option(min=0, metavar="PRICE", help="Of a kWh; else resources.price_kwh, or 0.30."),
    ] = None,
    price_gpu_hour: Annotated[
        float, typer.Option(min=0, metavar="PRICE", help="Of renting one card for an hour.")
    ] = 0.0,
    watts: Annotated[
        float | None, typer.Option(min=0, metavar="W", help="Of one card, not its board power.")
    ] = None,
    show: Annotated[
        int, typer.Option(min=0, metavar="N", help="Also show the prompts of the first N rows.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Say what `run` would do, whether it fits, how long it takes and what it costs."""
    from pipeline.cli.try_out.plan.prompts import print_prompts
    from pipeline.cli.try_out.plan.show import plan_as_json, print_plan
    from pipeline.cluster.engine_groups import asked_groups, local_groups
    from pipeline.driver.forecast.forecast import Forecaster
    from pipeline.driver.forecast.types import Prices
    from pipeline.driver.plan.ask_servers import ask_servers
    from pipeline.driver.plan.auto_engine import with_known_engine
    from pipeline.driver.plan.plan import check_input, make_plan
    from pipeline.engine.load import check_answer_shape
    from pipeline.input.shards import check_whole
    from pipeline.report.profile import load_profile

    loaded = with_known_engine(load_with(job, settings, output=output, workers=workers), _note)
    if gpus is not None:
        parse_gpus(gpus)  # reports its errors at once
    inputs = check_input(loaded, rows)
    for line in inputs.files.waiting:
        _note(line)
    check_answer_shape(loaded)
    plan = make_plan(inputs, fresh=fresh, report=_note, fetch=False)
    forecast, fits = None, []
    if any(unit.rows for unit in plan.missing):
        ask_servers(plan, _note)
        known = loaded.resources.price_kwh if price_kwh is None else price_kwh
        prices = Prices(Prices().per_kwh if known is None else known, price_gpu_hour, watts)
        forecaster = Forecaster(plan, load_profile(), prices)
        if gpus is not None:
            groups = asked_groups(loaded, gpus, forecaster.spread, _note)
        else:
            groups = local_groups(loaded, plan.most_engines, forecaster.spread, _note)
        groups = forecaster.usable(groups, _note)
        fits = forecaster.fits(groups)
        forecast = forecaster.forecast(groups)
    if as_json:
        print_json(plan_as_json(plan, forecast, fits))
    else:
        print_plan(plan, forecast, fits)
        if show:
            print_prompts(plan, show)
    check_whole(plan.input.files)


def _note(line: str) -> None:
    ERR.print(line, style="dim")
