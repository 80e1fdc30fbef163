"""What a file is called among the input's: the seeds of its rows are made of that."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.input.find import name_of_file


@pytest.mark.parametrize(
    ("path", "patterns", "name"),
    [
        ("data/a.parquet", ["data"], "0/a.parquet"),
        ("data/a.parquet", ["data/"], "0/a.parquet"),
        ("data/a.parquet", ["./data/*.parquet"], "0/a.parquet"),
        ("data/a.parquet", ["data/a.parquet"], "0/a.parquet"),
        ("data/x=1/a.parquet", ["data/**"], "0/x=1/a.parquet"),
        ("b/a.parquet", ["a", "b"], "1/a.parquet"),
        ("/d/a.csv", ["file:///d/*.csv"], "0/a.csv"),
        ("s3://bucket/d/a.csv", ["s3://bucket/d"], "0/a.csv"),
        ("s3://bucket/d/a.csv", ["s3a://bucket/d"], "s3://bucket/d/a.csv"),
    ],
)
def test_a_files_name_stays_when_all_data_moves(path: str, patterns: list[str], name: str) -> None:
    assert name_of_file(path, patterns) == name


def test_a_relative_pattern_and_an_absolute_path_are_one_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert name_of_file(f"{tmp_path}/data/a.csv", ["data"]) == "0/a.csv"
