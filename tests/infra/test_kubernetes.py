"""The manifests for Kubernetes."""

from __future__ import annotations

import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer.main
import yaml

from pipeline.cli.app import app
from pipeline.job.file.load import job_from
from pipeline.service.rack.ray_node import METRICS_PORT, RayNode
from tests.infra.crd import complaints
from tests.infra.kuberay import VERSIONS, schema

FOLDER = Path(__file__).parents[2] / "infra/kubernetes"
OLDEST, NEWEST = "1.29", "1.37"  # of Kubernetes


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")))


def the(kind: str) -> dict[str, Any]:
    found = [d for path in FOLDER.glob("*.yaml") for d in documents(path.name) if d["kind"] == kind]
    (one,) = found
    return one


def clusters() -> list[dict[str, Any]]:
    return [the("RayCluster")["spec"], the("RayJob")["spec"]["rayClusterSpec"]]


def groups(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def pods() -> list[dict[str, Any]]:
    return [group["template"]["spec"] for cluster in clusters() for group in groups(cluster)]


@pytest.mark.parametrize("kubernetes", [OLDEST, NEWEST])
def test_kubernetes_takes_what_it_knows_itself_and_every_pod(kubernetes: str) -> None:
    own = documents("shared.yaml")
    templates = [group["template"] for cluster in clusters() for group in groups(cluster)]
    wrapped = [
        {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "any"}, "template": pod}
        for pod in templates
    ]

    for document in [*own, *wrapped]:
        kubernetes_validate.validate(document, kubernetes, strict=True)


def test_a_field_that_kubernetes_does_not_know_is_found() -> None:
    pod = {"containers": [{"name": "a", "image": "b", "volumeMount": []}]}
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}, "spec": pod}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, NEWEST, strict=True)


@pytest.mark.parametrize("kuberay", VERSIONS)
@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_kuberay_takes_what_is_its_own(kind: str, kuberay: str) -> None:
    assert list(complaints(schema(kuberay, kind), the(kind))) == []


def test_a_field_that_kuberay_does_not_know_is_found() -> None:
    manifest = the("RayJob")
    manifest["spec"]["rayClusterSpec"]["headGroupSpec"]["replicas"] = 1

    (complaint,) = complaints(schema(VERSIONS[-1], "RayJob"), manifest)
    assert "$.spec.rayClusterSpec.headGroupSpec" in complaint
    assert "'replicas'" in complaint


def test_the_job_has_the_machines_that_the_cluster_has() -> None:
    standing, for_the_job = clusters()

    assert standing == for_the_job


def test_ray_wants_its_token_and_its_dashboard_is_not_put_outside() -> None:
    for cluster in clusters():
        assert cluster["authOptions"] == {"mode": "token"}
        assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
        assert cluster["headGroupSpec"]["enableIngress"] is False


def test_the_versions_are_those_that_rackmill_runs_with() -> None:
    assert {cluster["rayVersion"] for cluster in clusters()} == {version("ray")}


def test_the_head_has_no_engine_and_each_worker_one_card() -> None:
    for cluster in clusters():
        head, *workers = groups(cluster)
        assert head["rayStartParams"]["num-cpus"] == head["rayStartParams"]["num-gpus"] == "0"
        assert "nvidia.com/gpu" not in _limits(head)
        assert workers
        assert all(_limits(worker)["nvidia.com/gpu"] == 1 for worker in workers)


def test_ray_is_started_with_what_rackmill_starts_it_with() -> None:
    node = RayNode("name", "10.0.0.2")
    command = node.command()
    wanted = dict(node.environment({}))
    del wanted["RAY_AUTH_MODE"]  # KubeRay sets it

    for cluster in clusters():
        for group in groups(cluster):
            asked = group["rayStartParams"]
            assert asked["metrics-export-port"] == str(METRICS_PORT)
            memory = command[command.index("--object-store-memory") + 1]
            assert asked["object-store-memory"] == memory
            (container,) = group["template"]["spec"]["containers"]
            given = {entry["name"]: entry["value"] for entry in container["env"]}
            assert wanted.items() <= given.items()


def test_no_pod_is_more_than_it_has_to_be() -> None:
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            confined = container["securityContext"]
            assert confined["allowPrivilegeEscalation"] is False
            assert confined["capabilities"] == {"drop": ["ALL"]}


def test_every_volume_is_mounted_and_every_mount_has_its_volume() -> None:
    for pod in pods():
        mounted = {m["name"] for container in pod["containers"] for m in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_what_pods_refer_to_is_there() -> None:
    for pod in pods():
        for volume in pod["volumes"]:
            if "configMap" in volume:
                assert volume["configMap"]["name"] == the("ConfigMap")["metadata"]["name"]
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                assert claim == the("PersistentVolumeClaim")["metadata"]["name"]


def test_the_policy_covers_every_pod_of_ray() -> None:
    selected = the("NetworkPolicy")["spec"]["podSelector"]["matchLabels"]

    for cluster in clusters():
        for group in groups(cluster):
            assert selected.items() <= group["template"]["metadata"]["labels"].items()


def test_the_job_runs_a_job_file_of_the_config_map_with_a_command_of_rackmill() -> None:
    program, command, file, *options = shlex.split(the("RayJob")["spec"]["entrypoint"])
    assert (program, Path(file).parent) == ("rackmill", Path("/jobs"))

    job = job_from(yaml.safe_load(the("ConfigMap")["data"][Path(file).name]))
    assert job.output.path.startswith("/data/")
    run = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    run.make_context(command, [file, *options])  # raises for arguments that it does not take


def _limits(group: dict[str, Any]) -> dict[str, Any]:
    (container,) = group["template"]["spec"]["containers"]
    found: dict[str, Any] = container["resources"]["limits"]
    return found
