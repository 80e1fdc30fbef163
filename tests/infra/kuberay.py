"""KubeRay's own fields, as far as the manifests use them: written down from the CRDs of KubeRay
1.6.2 and 1.7.0, because no package has those. Pods, which are most of a manifest, are not here:
Kubernetes' own schemas know them.

A folder with KubeRay's CRDs (``ray.io_rayclusters.yaml``, ``ray.io_rayjobs.yaml``) in
``KUBERAY_CRDS`` has the manifests held against those, too.
"""

from __future__ import annotations

from typing import Any


def _object(*required: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


_TEXT = {"type": "string"}
_NUMBER = {"type": "integer", "minimum": 0}
_FLAG = {"type": "boolean"}
_TEXTS = {"type": "object", "additionalProperties": _TEXT}  # numbers have to be in quotes
_POD = {"type": "object", "required": ["spec"]}

RAY_CLUSTER = _object(
    "headGroupSpec",
    rayVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
    authOptions=_object(mode={"enum": ["disabled", "token"]}, secretName=_TEXT),
    headGroupSpec=_object(
        "template",
        serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]},
        enableIngress=_FLAG,
        rayStartParams=_TEXTS,
        template=_POD,
    ),
    workerGroupSpecs={
        "type": "array",
        "items": _object(
            "groupName",
            "template",
            "minReplicas",
            "maxReplicas",
            groupName=_TEXT,
            replicas=_NUMBER,
            minReplicas=_NUMBER,
            maxReplicas=_NUMBER,
            rayStartParams=_TEXTS,
            template=_POD,
        ),
    },
)
RAY_JOB = _object(
    entrypoint=_TEXT,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    backoffLimit=_NUMBER,
    shutdownAfterJobFinishes=_FLAG,
    ttlSecondsAfterFinished=_NUMBER,
    rayClusterSpec=RAY_CLUSTER,
)
