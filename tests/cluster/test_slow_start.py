"""A machine on which Ray comes up more slowly than Ray waits for it."""

from __future__ import annotations

from pathlib import Path

import pytest

_SLOW = """
import psutil
import ray
import ray._private.services as services
from pipeline.cluster.ray_cluster import Cluster

real, asked = services.get_node, []

def get_node(*arguments):
    asked.append(arguments)
    if len(asked) == 1:
        raise Exception("The current node timed out during startup. This could happen because")
    return real(*arguments)

services.get_node = get_node
cluster = Cluster(None)
up = [p.name() for p in psutil.Process().children(recursive=True)]
print(len(asked) > 1, up.count("raylet"), up.count("gcs_server"), ray.is_initialized())
cluster.close()
print(psutil.Process().children(recursive=True))
"""


@pytest.mark.ray
def test_it_is_started_once_more_and_nothing_of_the_first_is_left(tmp_path: Path, launcher) -> None:
    done = launcher.python("-c", _SLOW, cwd=tmp_path)

    assert done.out.splitlines() == ["True 1 1 True", "[]"], done.err
