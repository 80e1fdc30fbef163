"""How Ray is started on a machine of a rack."""

from __future__ import annotations

from pipeline.service.rack.ray_node import RayNode


def option(node: RayNode, name: str, taken: frozenset[int] = frozenset()) -> str | None:
    command = node.command(taken)
    return command[command.index(name) + 1] if name in command else None


HEAD = RayNode("h-1", "10.0.0.1", cards=2)
OTHER = RayNode("o-1", "10.0.0.2", head="10.0.0.1:6379")


def test_the_dashboard_listens_on_loopback() -> None:
    assert option(HEAD, "--dashboard-host") == "127.0.0.1"


def test_tokens_are_wanted_whatever_the_environment_says() -> None:
    assert HEAD.environment({"RAY_AUTH_MODE": "disabled"})["RAY_AUTH_MODE"] == "token"


def test_what_the_environment_says_goes_before_our_own_choice() -> None:
    assert HEAD.environment({"RAY_worker_niceness": "7"})["RAY_worker_niceness"] == "7"


def test_one_who_joins_starts_no_head() -> None:
    assert "--head" in HEAD.command()
    assert "--head" not in OTHER.command()
    assert option(OTHER, "--address") == "10.0.0.1:6379"


def test_nothing_runs_that_a_rack_has_no_use_for() -> None:
    assert "--no-monitor" in HEAD.command()
    assert "--no-monitor" not in OTHER.command()  # it would have none
    assert {option(node, "--include-log-monitor") for node in (HEAD, OTHER)} == {"false"}


def test_ports_are_fixed_unless_they_are_taken() -> None:
    assert option(OTHER, "--node-manager-port") == "6380"
    assert option(OTHER, "--node-manager-port", frozenset({6380})) is None
    assert option(OTHER, "--object-manager-port", frozenset({6380})) == "6381"
    assert option(OTHER, "--min-worker-port", frozenset({6380})) is None


def test_cards_are_told_to_ray() -> None:
    assert option(HEAD, "--num-gpus") == "2"
    assert option(OTHER, "--num-gpus") == "0"
