"""Print the first rows of a dataset: python infra/show_rows.py FOLDER."""

from __future__ import annotations

import sys

import pyarrow.dataset as ds

for row in ds.dataset(sys.argv[1]).head(5).to_pylist():
    mark = "✓" if row["label"] == row["sentiment"] else "✗"
    print(f"  {mark} {row['label']:<8} {row['confidence']:.2f}  {row['text']}")
