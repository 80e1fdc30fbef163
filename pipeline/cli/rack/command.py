"""`rackmill rack`: several machines with gaming cards as one."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from pipeline.cli.options import Json, address_option
from pipeline.cli.terminal.console import ERR, print_json
from pipeline.errors import UsageError
from pipeline.humanize import plural
from pipeline.job.engine import EngineSettings
from pipeline.service.rack.ray_node import HEAD_PORT

rack_app = typer.Typer(
    name="rack",
    help="Make a few machines with gaming cards one rack, and see what is in it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Host = Annotated[
    str | None,
    typer.Option(metavar="IP", help="This machine's address for the others; else it is found."),
]
Foreground = Annotated[
    bool, typer.Option("--foreground", help="Stay, until Ctrl-C: for systemd and containers.")
]


@rack_app.command("start")
def start_command(
    head: Annotated[bool, typer.Option("--head", help="This machine becomes the head.")] = False,
    port: Annotated[
        int, typer.Option(min=1024, max=65535, metavar="PORT", help="On which others join.")
    ] = 6379,
    host: Host = None,
    dashboard_host: Annotated[
        str, typer.Option(metavar="IP", help="On which Ray's dashboard listens.")
    ] = "127.0.0.1",
    turn: Annotated[
        float,
        typer.Option(
            min=1, metavar="SECONDS", help="Jobs keep cards so long while others wait for some."
        ),
    ] = 600,
    foreground: Foreground = False,
) -> None:
    """Make this machine the head of a new rack: Ray, with a token that all others need, and the
    queue of submitted jobs."""
    from pipeline.cluster.ray_access import own_token, token_file
    from pipeline.service.rack.start import head_node, keep_in_background, keep_until_told

    if not head:
        raise UsageError(
            "rack start makes this machine the head of a new rack: say --head",
            "to join one that there is: rackmill rack join HEAD:PORT",
        )
    known = own_token() is not None
    node = head_node(port, host, dashboard_host)
    if foreground:
        from pipeline.service.queue.service import keep_queue

        keep_until_told(node, _say, lambda stop: keep_queue(node, turn, _say, stop))
        return
    given = ["--host", host] if host else []
    given += ["--port", str(port), "--dashboard-host", dashboard_host, "--turn", str(turn)]
    record = keep_in_background(["start", "--head", *given])
    for line in (
        f"this machine is the head of a rack: {record.address}",
        f"  cards      {_cards_here()}",
        f"  token      {token_file()}{'' if known else ' (new)'}: whoever has it may run programs "
        "on every machine of the rack",
        f"  join       copy that file to each other machine, then: "
        f"rackmill rack join {record.address}",
        f"  dashboard  http://{dashboard_host}:{node.dashboard_port}"
        + (" (from this machine only)" if dashboard_host.startswith("127.") else ""),
        "  see it     rackmill rack show",
        f"  use it     rackmill submit JOB.yaml, also from elsewhere: --address {record.address}",
    ):
        ERR.print(line)


@rack_app.command("join")
def join_command(
    head: Annotated[str, typer.Argument(metavar="HEAD:PORT", help="As rack start printed it.")],
    host: Host = None,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="Its engine instead of vLLM: llama.cpp is started here; others are at --endpoint.",
        ),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Of the server that is its engine (openai's interface)."),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(metavar="VARIABLE", help="That holds the endpoint's key on this machine."),
    ] = None,
    foreground: Foreground = False,
) -> None:
    """Have this machine, with its cards, join a rack; jobs that run there make use of it."""
    from pipeline.service.rack.start import joining_node, keep_in_background, keep_until_told

    own = _own_engine(engine, endpoint, api_key)
    node = joining_node(head, host, own)
    if foreground:
        keep_until_told(node, _say)
        return
    given = ["--host", host] if host else []
    for option, value in (("--engine", engine), ("--endpoint", endpoint), ("--api-key", api_key)):
        given += [option, value] if value is not None else []
    record = keep_in_background(["join", node.address, *given])
    ERR.print(f"joined the rack of {record.address} as {record.host}")
    ERR.print(f"  cards  {_cards_here()}")
    if own is not None:
        ERR.print(
            f"  engine {own['kind']} {own.get('url', '')}, for jobs with resources.mixed: true"
        )
    ERR.print("  leave it: rackmill rack stop")


@rack_app.command("show")
def show_command(
    address: Annotated[
        str | None, address_option("Of the head; else the rack of this machine.")
    ] = None,
    as_json: Json = False,
) -> None:
    """The machines of a rack: cards, memory, what runs on them and what fits on them."""
    from pipeline.cli.rack.show import print_rack, rack_as_json
    from pipeline.cluster.rack_state.gcs import Gcs
    from pipeline.service.rack.view import look

    view = look(Gcs(rack_address(address)))
    if as_json:
        print_json(rack_as_json(view))
    else:
        print_rack(view)


@rack_app.command("stop")
def stop_command() -> None:
    """Have this machine leave its rack. Jobs go on with the others; if it is the head, they stop
    and go on when it is started again."""
    from pipeline.service.queue.service import jobs_left
    from pipeline.service.rack.record import forget_record, read_record

    record = read_record()
    if record is None:
        raise UsageError("this machine is in no rack that rackmill started")
    record.stop()
    forget_record()
    if not record.is_head:
        ERR.print(f"left the rack of {record.address}")
        return
    ERR.print("the rack is stopped")
    if left := jobs_left():
        goes = "goes" if left == 1 else "go"
        ERR.print(f"  {plural(left, 'job')} in its queue {goes} on when it is started again:")
        ERR.print("  rackmill rack start --head")


def _own_engine(kind: str | None, url: str | None, api_key: str | None) -> dict[str, Any] | None:
    """As in a job's ``engine``; None: vLLM. Raises UsageError if it is invalid."""
    if kind is None and url is None and api_key is None:
        return None
    given = {"kind": kind or "openai", "url": url, "api_key": api_key}
    asked = {key: value for key, value in given.items() if value is not None}
    try:
        found = EngineSettings.model_validate(asked)
    except ValidationError as e:
        why = e.errors()[0]["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"--engine, --endpoint: {why}",
            "rackmill rack join HEAD:PORT --engine ollama --endpoint http://127.0.0.1:11434",
        ) from None
    if not found.served:
        raise UsageError(
            f"--engine {found.kind} is no server",
            "vLLM is the engine of a machine that is told of no other: leave --engine away",
        )
    return found.model_dump(mode="json", exclude_unset=True)


def rack_address(given: str | None) -> str:
    """HOST:PORT of the head: from ``given``, ``RAY_ADDRESS``, or ("auto") the rack of this machine.
    Raises UsageError if there is none."""
    from pipeline.service.rack.record import read_record

    record = read_record()
    own = record.address if record else None
    found = own if given == "auto" else given or os.environ.get("RAY_ADDRESS") or own
    if found is None:
        raise UsageError(
            "this machine is in no rack",
            "give --address HEAD:PORT, as rackmill rack start printed it, or set RAY_ADDRESS",
        )
    return found if found.rpartition(":")[2].isdigit() else f"{found}:{HEAD_PORT}"


def _cards_here() -> str:
    from pipeline.cli.rack.show import devices_in_words
    from pipeline.engine.machine.facts import own_facts

    return devices_in_words(own_facts())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
