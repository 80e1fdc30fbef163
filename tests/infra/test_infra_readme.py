"""The operator's files are listed, each with what it is for."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

INFRA = Path(__file__).parents[2] / "infra"


def test_every_file_is_listed_and_every_listed_file_is_there() -> None:
    text = (INFRA / "README.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    listed = [name.rstrip("/") for row in rows for name in re.findall(r"`([^`]+)`", row)]
    there = {str(path.relative_to(INFRA)) for path in INFRA.iterdir() if path.is_file()}
    there |= {"kubernetes", "grafana/rackmill.json"}

    assert there - {"README.md"} == {
        name for name in there for pattern in listed if fnmatch.fnmatch(name, pattern)
    }
    assert all(list(INFRA.glob(pattern)) for pattern in listed)
