"""What goes into every output file's metadata: where its rows come from."""

from __future__ import annotations

from pipeline.driver.plan.plan import Plan
from pipeline.engine.machine.facts import own_versions


def provenance(plan: Plan) -> dict[str, str]:
    """Job, model and versions, by name."""
    facts = {
        "job": plan.job.name,
        "fingerprint": str(plan.manifest["fingerprint"]),
        "model": plan.model.name,
        "model_hash": plan.model.hash,
        "quantization": plan.model.quantization,
        "engine": " and ".join(dict.fromkeys(one.kind for one in plan.job.engines)),
    }
    for package, version in own_versions().items():
        facts[f"{package.replace('-', '_')}_version"] = version
    return facts
