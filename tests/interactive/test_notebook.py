"""A run from Python, as a notebook has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
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


CELLS = (
    "import pandas, rackmill",
    """result = rackmill.run(
    pandas.DataFrame({"text": ["good day", "bad <day>"] * 3, "gold": ["good", "bad"] * 3}),
    prompt="{text}:", choices=["good", "bad"], gold="gold",
    engine={"kind": "simulated"}, output="out",
)
result""",
    "result.to_pandas().shape[0]",
    'rackmill.load_job("missing.yaml")',
)


@pytest.mark.ray
def test_a_notebook_shows_the_result_and_no_noise(tmp_path: Path) -> None:
    imported, ran, counted, refused = _executed(tmp_path, CELLS)

    assert imported == []
    shown = [output for output in ran if output.output_type == "execute_result"]
    assert "bad &lt;day&gt;" in shown[0].data["text/html"]
    assert "<th>confidence</th>" in shown[0].data["text/html"]
    assert "<th>prompt_tokens</th>" not in shown[0].data["text/html"]
    told = "".join(o.text for o in ran if o.output_type == "stream").splitlines()
    assert all(line.startswith(("table · ", "  ")) for line in told if line.strip()), told
    assert counted[0].data["text/plain"] == "6"
    assert (refused[0].output_type, refused[0].ename) == ("error", "UsageError")


def _executed(folder: Path, cells: Sequence[str]) -> list[list[Any]]:
    """The outputs of each cell of a notebook, run by Jupyter with the Python of the tests."""
    path = folder / "notebook.ipynb"
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(made, path)
    kernel = folder / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    about = {"argv": argv, "display_name": "this", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(about))
    jupyter = "from nbclient.cli import main; main()"
    subprocess.run(
        [sys.executable, "-c", jupyter, "--inplace", "--allow-errors", str(path)],
        cwd=folder,
        env=os.environ | {"JUPYTER_PATH": str(folder / "jupyter")},
        timeout=240,
        check=True,
    )
    return [cell.outputs for cell in nbformat.read(path, as_version=4).cells]
