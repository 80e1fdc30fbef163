"""A run from Python, as a notebook has it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, pandas, rackmill, sys
frame = pandas.DataFrame({"text": ["good day", "bad <day>"] * 3, "gold": ["good", "bad"] * 3})
result = rackmill.run(
    frame, prompt="{text}:", choices=["good", "bad"], gold="gold",
    engine={"kind": "simulated"}, output="out",
)
assert list(result.to_pandas()["text"]) == list(frame["text"])
assert result.to_arrow().num_rows == 6 == len(list(result.rows()))
assert result.accuracy == result.summary.accuracy is not None
html = result._repr_html_()
assert "bad &lt;day&gt;" in html and "<day>" not in html and "agree with gold" in html
print(repr(result))
sys.stdout.flush()
os._exit(0)  # threads of C++ libraries abort about one in a hundred processes at their very end
"""


@pytest.mark.ray
def test_a_table_goes_in_and_a_table_comes_out_without_noise(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("Result(6 rows, ")
    assert ran.stdout.count("\n") == 1
    said = [line for line in ran.stderr.splitlines() if line.strip()]
    assert all(line.startswith(("table · ", "  ")) for line in said), ran.stderr
