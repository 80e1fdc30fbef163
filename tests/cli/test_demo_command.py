"""`rackmill demo`: in a clone and from a wheel, wherever one stands."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pipeline.cli.try_out.demo import HeldOutAccuracy, gallery, share_lines, trust_lines

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_shares_are_drawn_in_proportion_and_fit_the_screen(width: int) -> None:
    lines = share_lines({"negative": 300, "positive": 150, "neither": 0}, width)

    bars = [line.count("█") for line in lines]
    assert bars[0] == pytest.approx(2 * bars[1], abs=1)
    assert bars[2] == 0
    assert all(len(line) <= width for line in lines)
    assert [line.split()[-2] for line in lines] == ["67", "33", "0"]


def test_in_a_clone_the_examples_are_those_that_one_edits() -> None:
    assert gallery() == ROOT / "jobs"


def test_what_was_gained_is_said_last() -> None:
    before, after = HeldOutAccuracy(412, 343, 0.185), HeldOutAccuracy(412, 389, 0.025)
    promise = {"error": 0.05, "confidence": 0.95}
    accepted = {"threshold": 0.9, "rows": 441}
    block = {"rows": 512, "calibration": {}, "promise": promise, "acceptance": accepted}
    missing = block | {"calibration": None, "no_calibration": "12 gold rows, a fit needs 20"}

    assert trust_lines(block | {"calibration": {"slope": 1.0}}, (before, after)) == [
        "by the grades of the 412 rows that were not checked:",
        "  before  83.3 % right, calibration error 0.185",
        "  after   94.4 % right, calibration error 0.025",
        "441 of 512 rows are accepted: at most 5 % of them wrong, with 95 % confidence.",
    ]
    own = {"accuracy": {"value": 0.9}}
    gold = {"calibration": {"slope": 1.0}, "gold": {"rows": 100}, "before": own}
    fewer = trust_lines(block | gold, (HeldOutAccuracy(412, 396, 0.268), after))
    assert fewer[3] == (
        "  (7 labels fewer right: 100 checked rows draw the line only roughly; of these, the model "
        "had 90.0 % right. But confidences now mean what they say)"
    )
    worse = trust_lines(block | gold, (before, HeldOutAccuracy(412, 300, 0.1)))
    assert not [line for line in worse if "fewer" in line]  # then it would not be true
    assert trust_lines(missing, (before, before))[-1].endswith("12 gold rows, a fit needs 20")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a wheel of this clone holds, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*build, "--directory", folder], cwd=ROOT, check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as packed:
        packed.extractall(folder / "unpacked")
    return folder / "unpacked"


@pytest.mark.parametrize(
    "path",
    [
        "rackmill.py",
        "pipeline/report/page/page.html",
        "pipeline/model/families/gemma3/chat.jinja",
        "pipeline/model/calibration.txt",
        *(
            f"pipeline/gallery/{path.relative_to(ROOT / 'jobs')}"
            for path in sorted((ROOT / "jobs").rglob("*"))
            if path.is_file()
        ),
    ],
)
def test_a_wheel_holds_what_is_read_beside_the_code(wheel: Path, path: str) -> None:
    assert (wheel / path).is_file()


@pytest.mark.ray
def test_from_a_wheel_it_runs_in_an_empty_folder(wheel: Path, model, tmp_path: Path) -> None:
    code = "import sys; sys.argv[0] = 'rackmill'; from pipeline.cli.start import start; start()"
    done = subprocess.run(
        [sys.executable, "-c", code, "demo", "--rows", "60", "--set", "engine.kind=simulated"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(wheel), "RACKMILL_STATE": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        check=False,
        timeout=480,
    )

    assert done.returncode == 0, done.stderr
    assert str(wheel) in (tmp_path / "runs/label-tweets/_rackmill/job.json").read_text()
    assert done.stderr.splitlines()[0].startswith("  demo")
    shown = done.stdout.splitlines()
    assert sum("█" in line for line in shown) == 2
    assert "where people graded them otherwise, for example:" in shown
    assert any("% right, calibration error" in line for line in shown)
    report = next(line.split()[-1] for line in shown if line.endswith("report.html"))
    assert (tmp_path / report).is_file()
