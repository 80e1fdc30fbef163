"""A Ray that still starts when nobody needs it any more."""

from __future__ import annotations

import threading
from contextlib import suppress

from pipeline.cluster import background
from pipeline.cluster.ray_processes import RayProcesses
from tests.cluster.test_ray_processes import daemon, lives


def test_of_a_ray_that_still_starts_agents_end_whose_daemon_is_dead(monkeypatch) -> None:
    orphaned, go_on = threading.Event(), threading.Event()
    agents = []

    def start(address: None, queued: None, *, patient: bool, processes: RayProcesses) -> None:
        with processes:
            started, agent = daemon()
            agents.append(agent)
            started.kill()
            started.communicate()
            orphaned.set()
            go_on.wait(30)
        raise RuntimeError("its daemon is dead")

    monkeypatch.setattr(background, "_import_cluster", lambda: start)
    monkeypatch.setattr(background, "_left", [])
    with suppress(KeyboardInterrupt), background.ClusterInBackground(None) as cluster:
        cluster.start()
        assert orphaned.wait(30)
        raise KeyboardInterrupt

    assert background.is_starting()
    assert lives(agents[0])
    try:
        background.end_what_starts()

        assert not lives(agents[0])
    finally:
        go_on.set()
