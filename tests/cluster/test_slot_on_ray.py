"""A slot of two cards on a real Ray: Ray counts cards, which ones they are is said by us."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

_PROGRAM = """
import json, os
import ray
from pipeline.worker.own_slot import CHOSEN_HERE, own_card, take_cards
from pipeline.cluster.actor_options import ActorOptions
from pipeline.driver.workers.worker_handle import find_workers

os.environ.pop("CUDA_VISIBLE_DEVICES", None)
ray.init("local", num_gpus=4, num_cpus=1, namespace="rackmill", include_dashboard=False,
         log_to_driver=False)

@ray.remote
class Worker:
    def take(self, cards):
        take_cards(cards)
        return os.environ["CUDA_VISIBLE_DEVICES"], own_card(["2x rtx3060"], "2x rtx3060")
    def kept(self):
        return None

placement = ActorOptions(2, CHOSEN_HERE | {"RACKMILL_CARDS": "1x rtx4090,3x rtx3060"})
worker = Worker.options(**placement.options, name="worker/a/2+3", lifetime="detached",
                        runtime_env={"env_vars": dict(placement.environment)}).remote()
visible, card = ray.get(worker.take.remote((2, 3)))
names = ("worker/a/2", "worker/a/3+4", "worker/a/0+1", "worker/b/2+3", None)
found = {str(name): [one.slot for one in find_workers(name)] for name in names}
left = ray.available_resources().get("GPU", 0)
print(json.dumps({"visible": visible, "card": card, "found": found, "left": left}))
"""


def test_its_worker_sees_the_named_cards_and_is_found_by_each_of_them(
    tmp_path: Path, launcher
) -> None:
    program = tmp_path / "slot.py"
    program.write_text(_PROGRAM)
    done = launcher.python(program, cwd=tmp_path, PYTHONPATH=str(Path(__file__).parents[2]))
    assert done.code == 0, done.err
    said = json.loads(done.out.splitlines()[-1])

    assert (said["visible"], said["card"], said["left"]) == ("2,3", "2x rtx3060", 2)
    assert said["found"] == {
        "worker/a/2": ["worker/a/2+3"],
        "worker/a/3+4": ["worker/a/2+3"],
        "worker/a/0+1": [],
        "worker/b/2+3": [],
        "None": [],
    }
