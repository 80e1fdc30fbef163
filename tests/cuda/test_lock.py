"""The locked CUDA requirements are whole and agree with each other, as they are installed: without
asking packages what they depend on."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

LOCK = Path(__file__).parents[2] / "infra" / "requirements-cuda.txt"
LOCKED = dict(line.split("==") for line in LOCK.read_text(encoding="utf-8").split())


@pytest.mark.parametrize("name", LOCKED)
def test_every_requirement_of_a_locked_package_is_met(name: str) -> None:
    found = distribution(name)
    assert found.version.split("+")[0] == LOCKED[name]
    for text in found.requires or ():
        wanted = Requirement(text)
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            version = distribution(wanted.name).version
            assert wanted.specifier.contains(version, prereleases=True), (text, version)


def test_pytorch_is_the_build_for_cuda() -> None:
    import torch

    assert torch.version.cuda == "13.0"


def test_nvidias_wheels_are_locked_at_what_pytorch_was_built_with() -> None:
    """Another minor version would be loaded in their place, and fail when a kernel starts."""
    asked = [Requirement(text) for text in distribution("torch").requires or ()]
    here = [r for r in asked if r.marker is None or r.marker.evaluate({"extra": ""})]
    toolkit = distribution("cuda-toolkit")
    pinned = [r for r in here if r.name.startswith(("nvidia-", "triton"))]
    assert pinned
    for wanted in pinned:
        assert distribution(wanted.name).version in wanted.specifier, wanted
    for extra in ("cublas", "cudart", "cufft", "cupti", "nvrtc"):
        for text in toolkit.requires or ():
            wanted = Requirement(text)
            if wanted.marker is not None and wanted.marker.evaluate({"extra": extra}):
                assert distribution(wanted.name).version in wanted.specifier, wanted
