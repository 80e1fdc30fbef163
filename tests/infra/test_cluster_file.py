"""The file for Ray's cluster launcher, held against Ray's own schema and code, and against how
rackmill itself starts Ray."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pipeline.service.rack.ray_node import RayNode

INFRA = Path(__file__).parents[2] / "infra"
OPTIONAL = {"--node-ip-address", "--node-name", "--num-gpus", "--log-style", "--block"}


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return yaml.safe_load((INFRA / "ray-cluster.yaml").read_text(encoding="utf-8"))


def test_rays_schema_takes_it(config: dict[str, Any]) -> None:
    import ray.autoscaler

    schema = Path(ray.autoscaler.__file__).with_name("ray-schema.json")

    jsonschema.validate(config, json.loads(schema.read_text(encoding="utf-8")))


def test_rays_launcher_takes_it_and_wants_all_machines(config: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(config)
    validate_config(prepared)

    machines = prepared["available_node_types"]["local.cluster.node"]
    assert machines["min_workers"] == machines["max_workers"] == 2


@pytest.mark.parametrize("which", ["head", "worker"])
def test_ray_is_started_as_rackmill_starts_it(config: dict[str, Any], which: str) -> None:
    head = None if which == "head" else "$RAY_HEAD_IP:6379"
    node = RayNode("name", "192.168.7.2", head=head)

    words = shlex.split(config[f"{which}_start_ray_commands"][-1])
    at = next(i for i, word in enumerate(words) if word.endswith("/ray"))
    environment = dict(word.split("=", 1) for word in words[:at])
    wanted = _options(node.command()[1:])
    wanted.pop("--no-monitor", None)  # that is Ray's autoscaler, which starts the other machines

    assert environment == node.environment({})
    assert {**wanted, "--autoscaling-config": ""} == {
        **_options(words[at + 1 :]),
        "--autoscaling-config": "",
    }


def test_the_token_and_the_clone_come_to_every_machine(config: dict[str, Any]) -> None:
    assert config["file_mounts"] == {"~/rackmill": ".", "~/.ray/auth_token": "~/.ray/auth_token"}
    assert ".venv" in config["rsync_exclude"]  # each machine's own


def _options(words: list[str]) -> dict[str, str]:
    """Of ``ray start``, but for those that say which machine it is, or how it is watched."""
    assert words[0] == "start"
    found: dict[str, str] = {}
    for word, following in zip(words[1:], [*words[2:], "--"], strict=True):
        if word.startswith("--"):
            found[word] = "" if following.startswith("--") else following
    return {option: value for option, value in found.items() if option not in OPTIONAL}
