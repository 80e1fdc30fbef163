"""The container files. That they can be built, and what they build runs, was tried by hand (see
infra/README.md); here it is held that they stay what was tried."""

from __future__ import annotations

import fnmatch
import shlex
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
VARIANTS = ("cpu", "cuda")


def instructions(variant: str) -> list[tuple[str, str]]:
    """(keyword, rest) of each, lines put together again."""
    text = (REPOSITORY / f"infra/Containerfile.{variant}").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    split = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(keyword, rest) for keyword, rest in split]


def copied(variant: str) -> list[str]:
    """What comes from the build's folder."""
    found = [shlex.split(rest)[:-1] for keyword, rest in instructions(variant) if keyword == "COPY"]
    return [path for paths in found for path in paths]


@pytest.mark.parametrize("variant", VARIANTS)
def test_whoever_runs_it_is_not_root(variant: str) -> None:
    users = [rest for keyword, rest in instructions(variant) if keyword == "USER"]

    # a number: Kubernetes' runAsNonRoot does not look names up
    assert users == ["1000"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_its_arguments_are_those_of_rackmill(variant: str) -> None:
    assert instructions(variant)[-1] == ("ENTRYPOINT", '["rackmill"]')


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_that_it_copies_is_there_and_let_through(variant: str) -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_through = [line.removeprefix("!") for line in ignored if line.startswith("!")]

    for path in copied(variant):
        assert (REPOSITORY / path).exists(), path
        around = [path, *map(str, Path(path).parents)]
        assert any(fnmatch.fnmatch(p, pattern) for p in around for pattern in let_through), path


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_installs_with_setup_and_from_its_own_list(variant: str) -> None:
    assert f"infra/requirements-{variant}.txt" in copied(variant)
    assert any(
        f"RACKMILL_VARIANT={variant} ./infra/setup" in rest
        for keyword, rest in instructions(variant)
        if keyword == "RUN"
    )


def test_both_are_one_file_but_for_what_the_processor_or_the_card_needs() -> None:
    own = ("RUN apt-get", "ARG UV_FIND_LINKS", "ENV NVIDIA_")

    def common(variant: str) -> list[str]:
        lines = [f"{keyword} {rest}" for keyword, rest in instructions(variant)]
        return [line.replace(variant, "VARIANT") for line in lines if not line.startswith(own)]

    assert common("cpu") == common("cuda")
