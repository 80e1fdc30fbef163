"""The demo, judged by the 412 grades that it does not use.

    python tests/bench/trust_demo.py [--anew] [--capability default|avx2|avx512]

Says how many labels are right and how far confidences are from that, before and after the 100
checked rows, and what is accepted. ``--capability``: the instructions that PyTorch may use; with
``--anew`` the model is converted with them, too, into a store of its own. Exit code 1 where fewer
than 93 % are right, the calibration error is above 0.05, or a promise was made and is not kept.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa

from pipeline.cli.try_out.demo import judged
from pipeline.model.store.index import store_root
from pipeline.output.rows.stored_rows import StoredRows

RIGHT, ERROR = 0.93, 0.05


def accepted_wrong(stored: StoredRows) -> tuple[int, int]:
    """Accepted rows that are not checked, and how many of them are wrong."""
    table = pa.concat_tables([part.unify_dictionaries() for part in stored.tables()])
    rows = [row for row in table.to_pylist() if row["accepted"] and row["checked"] is None]
    return len(rows), sum(row["label"] != row["sentiment"] for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--anew", action="store_true")
    parser.add_argument("--capability", choices=("default", "avx2", "avx512"))
    arguments = parser.parse_args()
    environment = dict(os.environ)
    if arguments.capability:
        environment["ATEN_CPU_CAPABILITY"] = arguments.capability
    with tempfile.TemporaryDirectory() as folder:
        if arguments.anew:
            home = Path(folder) / "home"
            home.mkdir()
            (home / "downloads").symlink_to(store_root().parent / "downloads")
            environment["RACKMILL_HOME"] = str(home)
        rackmill = Path(sys.executable).with_name("rackmill")
        subprocess.run([rackmill, "demo"], cwd=folder, env=environment, check=True)
        output = Path(folder) / "runs/label-tweets"
        stored = StoredRows(str(output))
        before, after = judged(stored)
        rows, wrong = accepted_wrong(stored)
        summary = json.loads((output / "_rackmill/summary.json").read_text())
    block = summary["trust"]["label"]
    share = after.right / after.rows
    print(f"capability {arguments.capability or 'as it is'}")
    print(f"before  {before.words}")
    print(f"after   {after.words}")
    print(f"accepted, not checked: {rows}, wrong {wrong} ({wrong / max(1, rows):.1%})")
    print(json.dumps({"calibration": block["calibration"], "acceptance": block["acceptance"]}))
    kept = wrong <= block["promise"]["error"] * rows
    sys.exit(0 if share >= RIGHT and after.calibration_error <= ERROR and kept else 1)


if __name__ == "__main__":
    main()
