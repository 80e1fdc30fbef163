"""KubeRay's own schemas of RayCluster and RayJob, of the versions in ``VERSIONS``: cut out of the
CRDs of its Helm chart (Apache-2.0, copyright of the KubeRay authors), because no package has those.
Descriptions are left out, and so are pods, nine tenths of a CRD: Kubernetes' own schemas know them.

    python -m tests.infra.kuberay 1.7.0 FOLDER   # with ray.io_rayclusters.yaml, ray.io_rayjobs.yaml
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.infra.crd import strict

VERSIONS = ("1.6.2", "1.7.0")
_KINDS = {"RayCluster": "ray.io_rayclusters.yaml", "RayJob": "ray.io_rayjobs.yaml"}
_ANY_OBJECT = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def schema(version: str, kind: str) -> Any:
    """A JSON schema that refuses unknown fields."""
    made = strict(json.loads(_file(version).read_text(encoding="utf-8"))[kind])
    made["properties"]["metadata"] = {"type": "object"}  # Kubernetes' own
    return made


def _file(version: str) -> Path:
    return Path(__file__).parent / f"kuberay-{version}.json"


def _cut(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_cut(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "containers" in _properties(_properties(schema).get("spec")):
        return _ANY_OBJECT
    # a property may be called so, too
    return {
        key: _cut(value)
        for key, value in schema.items()
        if key != "description" or not isinstance(value, str)
    }


def _properties(schema: Any) -> dict[str, Any]:
    found = schema.get("properties") if isinstance(schema, dict) else None
    return found if isinstance(found, dict) else {}


def main(version: str, folder: str) -> None:
    found = {}
    for kind, name in _KINDS.items():
        crd = yaml.safe_load((Path(folder) / name).read_text(encoding="utf-8"))
        (v1,) = (v for v in crd["spec"]["versions"] if v["name"] == "v1")
        found[kind] = _cut(v1["schema"]["openAPIV3Schema"])
    _file(version).write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
