"""discover(): which files there are, and every way in which they can be wrong."""

from __future__ import annotations

import io
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import UsageError, job_from
from pipeline.input.shards import InputFiles, discover
from pipeline.input.units import cut
from pipeline.job.job import Input
from tests.support.samples import BASE_JOB, json_lines, lines


def parquet(path: Path, **columns: list[object]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns or {"text": ["a", "b"]}), path)
    return str(path)


def find(*paths: str | Path, format: str | None = None) -> InputFiles:
    chosen = str(paths[0]) if len(paths) == 1 else tuple(map(str, paths))
    return discover(Input(path=chosen, format=format))


def refusal(*paths: str | Path, format: str | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        find(*paths, format=format)
    return str(caught.value)


def test_a_file_that_two_patterns_spell_differently_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parquet(tmp_path / "q" / "a.parquet")

    for other in ("./q/a.parquet", "q/../q", tmp_path / "q", f"file://{tmp_path}/q/*.parquet"):
        assert [shard.path for shard in find("q", other).shards] == ["q/a.parquet"]


def names(files: InputFiles) -> list[str]:
    return [Path(shard.path).name for shard in files.shards]


def test_a_file_is_one_shard_with_its_rows_and_size(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet")

    [shard] = find(path).shards
    assert (shard.path, shard.rows, shard.size) == (path, 2, Path(path).stat().st_size)


def test_a_glob_gives_its_files_sorted_by_path(tmp_path: Path) -> None:
    for name in ("b", "c", "a"):
        parquet(tmp_path / f"{name}.parquet")
    lines(tmp_path / "a.csv", ["text", "x"])

    assert names(find(tmp_path / "*.parquet")) == ["a.parquet", "b.parquet", "c.parquet"]


def test_several_paths_keep_their_order(tmp_path: Path) -> None:
    b, a = parquet(tmp_path / "b.parquet"), parquet(tmp_path / "a.parquet")

    assert names(find(b, a)) == ["b.parquet", "a.parquet"]


def test_a_folder_gives_the_data_files_in_it_at_any_depth(tmp_path: Path) -> None:
    parquet(tmp_path / "in" / "deep" / "b.parquet")
    parquet(tmp_path / "in" / "a.parquet")
    lines(tmp_path / "in" / "README.md", ["not data"])

    assert sorted(names(find(tmp_path / "in"))) == ["a.parquet", "b.parquet"]


@pytest.mark.parametrize(
    "hidden", ["_SUCCESS.parquet", ".a.parquet", "_state/a.parquet", ".x/a.pq"]
)
def test_a_folders_hidden_names_are_passed_over(tmp_path: Path, hidden: str) -> None:
    parquet(tmp_path / "in" / "seen.parquet")
    (tmp_path / "in" / hidden).parent.mkdir(exist_ok=True)
    (tmp_path / "in" / hidden).write_bytes(b"no data")

    assert names(find(tmp_path / "in")) == ["seen.parquet"]


def test_a_folder_below_a_hidden_one_is_read_all_the_same(tmp_path: Path) -> None:
    parquet(tmp_path / ".cache" / "in" / "a.parquet")

    assert names(find(tmp_path / ".cache" / "in")) == ["a.parquet"]


def test_a_file_whose_name_looks_like_a_glob_is_a_file(tmp_path: Path) -> None:
    parquet(tmp_path / "a[1].parquet")

    assert names(find(tmp_path / "a[1].parquet")) == ["a[1].parquet"]


def test_a_relative_path_stays_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a job moves with its folder."""
    parquet(tmp_path / "data" / "a.parquet")
    monkeypatch.chdir(tmp_path)

    assert [s.path for s in find("data/*.parquet").shards] == ["data/a.parquet"]


def test_a_path_that_is_not_there_gets_the_nearest_name(tmp_path: Path) -> None:
    parquet(tmp_path / "tweets.parquet")

    said = refusal(tmp_path / "tweet.parquet")
    assert "no such file or folder" in said
    assert "did you mean tweets.parquet?" in said


def test_a_path_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "no such file or folder" in refusal(tmp_path / "no" / "where.parquet")


def test_a_glob_that_matches_nothing_is_refused(tmp_path: Path) -> None:
    assert f"no file matches the pattern {tmp_path}/*.parquet" in refusal(tmp_path / "*.parquet")


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    lines(tmp_path / "notes.txt", ["x"])

    assert "no Parquet, JSONL or CSV file in" in refusal(tmp_path)


def test_an_empty_list_of_paths_is_refused() -> None:
    with pytest.raises(UsageError, match=r"input\.path"):
        discover(job_from(BASE_JOB | {"input": {"path": []}}).input)


def test_a_protocol_nobody_knows_is_refused() -> None:
    assert "input.path" in refusal("nonsense://bucket/a.parquet")


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.parquet", ["this is text, and enough of it to be looked at"])

    assert f"{path} is not a readable Parquet file" in refusal(path)


def test_an_empty_file_is_not_parquet(tmp_path: Path) -> None:
    assert "not a readable Parquet file" in refusal(lines(tmp_path / "a.parquet", []))


def test_a_parquet_file_that_was_cut_off_is_refused_by_name(tmp_path: Path) -> None:
    good, bad = parquet(tmp_path / "a.parquet"), parquet(tmp_path / "b.parquet")
    content = Path(bad).read_bytes()
    Path(bad).write_bytes(content[: len(content) // 2])

    said = refusal(good, bad)
    assert f"{bad} is not a readable Parquet file" in said
    assert "cut off" in said


def test_a_name_that_says_no_format_is_refused(tmp_path: Path) -> None:
    assert "set input.format" in refusal(lines(tmp_path / "rows.txt", ["text", "x"]))


def test_a_format_may_be_given_instead(tmp_path: Path) -> None:
    assert find(lines(tmp_path / "rows.txt", ["text", "x"]), format="csv").rows == 1


def test_mixed_formats_are_refused(tmp_path: Path) -> None:
    said = refusal(parquet(tmp_path / "a.parquet"), lines(tmp_path / "b.csv", ["text", "x"]))

    assert "several formats: csv (" in said
    assert "), parquet (" in said


def test_a_column_of_another_type_is_a_conflict_of_both_files(tmp_path: Path) -> None:
    a, b = parquet(tmp_path / "a.parquet", n=[1]), parquet(tmp_path / "b.parquet", n=["1"])

    [conflict] = find(a, b).conflicts
    assert str(conflict) == f"column 'n' is int64 in {a}, and string in {b}"


def test_a_conflict_that_is_cast_is_none(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", n=[1])
    parquet(tmp_path / "b.parquet", n=["x"])

    files = discover(Input(path=str(tmp_path), cast={"n": "string"}))
    assert (files.schema.field("n").type, files.conflicts) == (pa.string(), ())


def test_a_cast_of_no_column_gets_the_nearest_name(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", number=[1])

    with pytest.raises(UsageError) as caught:
        discover(Input(path=path, cast={"numbr": "string"}))
    assert "did you mean number?" in str(caught.value.hints)


def test_a_column_that_a_file_lacks_is_one_of_all_and_said(tmp_path: Path) -> None:
    a = parquet(tmp_path / "a.parquet", text=["a"])
    b = parquet(tmp_path / "b.parquet", text=["a"], more=[1])

    files = find(a, b)
    assert files.schema.names == ["text", "more"]
    assert files.notes == (f"more is null where a file lacks it, as {a} does",)


def test_columns_may_stand_in_another_order(tmp_path: Path) -> None:
    a = parquet(tmp_path / "a.parquet", x=[1], y=[2])
    b = parquet(tmp_path / "b.parquet", y=[2], x=[1])

    assert find(a, b).schema.names == ["x", "y"]


def test_whole_numbers_and_fractions_in_csv_files_are_text(tmp_path: Path) -> None:
    """As in one file: 1 is not 1.0."""
    a = lines(tmp_path / "a.csv", ["n", "1"])
    b = lines(tmp_path / "b.csv", ["n", "1.5"])

    assert find(a, b).schema.field("n").type == pa.string()


def test_numbers_and_words_in_csv_files_are_text(tmp_path: Path) -> None:
    a = lines(tmp_path / "a.csv", ["n", "1"])
    b = lines(tmp_path / "b.csv", ["n", "one"])

    assert find(a, b).schema.field("n").type == pa.string()


def test_a_column_that_is_empty_in_one_csv_file_has_the_type_of_the_others(tmp_path: Path) -> None:
    a = lines(tmp_path / "a.csv", ["n,m", ",1"])
    b = lines(tmp_path / "b.csv", ["n,m", "1,1"])

    assert find(a, b).schema.field("n").type == pa.int64()


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        (1, [1], pa.string()),
        (1, 1.5, pa.float64()),
        (2**53 + 1, 1.5, pa.decimal128(38, 1)),
        (None, {"a": 1}, pa.struct([("a", pa.int64())])),
    ],
)
def test_values_of_several_jsonl_files_are_as_those_of_one(
    tmp_path: Path, one: object, other: object, kind: pa.DataType
) -> None:
    a = json_lines(tmp_path / "a.jsonl", [{"n": one}])
    b = json_lines(tmp_path / "b.jsonl", [{"n": other}])

    assert find(a, b).schema.field("n").type == kind


@pytest.mark.parametrize(
    ("partitioning", "columns"),
    [("auto", ["text", "lang", "year"]), ("none", ["text"]), ("hive", ["text", "lang", "year"])],
)
def test_folders_of_hive_are_columns(tmp_path: Path, partitioning: str, columns: list[str]) -> None:
    for lang in ("de", "__HIVE_DEFAULT_PARTITION__"):
        (tmp_path / f"lang={lang}/year=2024").mkdir(parents=True)
        parquet(tmp_path / f"lang={lang}/year=2024/a.parquet", text=["a"])

    files = discover(Input.model_validate({"path": str(tmp_path), "partitioning": partitioning}))
    assert files.schema.names == columns


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_an_empty_text_file_has_no_rows(tmp_path: Path, name: str) -> None:
    assert find(lines(tmp_path / name, [])).rows == 0


def test_a_parquet_file_without_rows_has_its_schema(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")

    files = find(tmp_path / "a.parquet")
    assert (files.rows, files.schema.names) == (0, ["text"])


def test_a_csv_header_alone_has_no_rows_and_its_columns(tmp_path: Path) -> None:
    files = find(lines(tmp_path / "a.csv", ["text,n"]))

    assert (files.rows, files.schema.names) == (0, ["text", "n"])


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize("empty_first", [True, False])
def test_an_empty_file_beside_others_adds_no_rows(
    tmp_path: Path, suffix: str, empty_first: bool
) -> None:
    full = {"csv": ["text", "x"], "jsonl": ['{"text": "x"}']}[suffix]
    lines(tmp_path / f"{'b' if empty_first else 'a'}.{suffix}", full)
    lines(tmp_path / f"{'a' if empty_first else 'b'}.{suffix}", [])

    files = find(tmp_path / f"*.{suffix}")
    assert (files.rows, files.schema.names) == (1, ["text"])


def test_the_fingerprint_of_the_rows_stays_while_the_files_do(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet")

    assert find(path).fingerprint == find(path).fingerprint


def test_the_fingerprint_of_the_rows_changes_with_a_file(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", text=["a"])
    before = find(path).fingerprint
    parquet(tmp_path / "a.parquet", text=["a", "b"])

    assert find(path).fingerprint != before


def test_the_fingerprint_of_the_rows_changes_with_their_order(tmp_path: Path) -> None:
    a, b = parquet(tmp_path / "a.parquet"), parquet(tmp_path / "b.parquet")

    assert find(a, b).fingerprint != find(b, a).fingerprint


def test_a_file_that_two_patterns_match_gives_no_two_units_one_id(tmp_path: Path) -> None:
    """Units of one id would be one unit to the output folder, and rows would go missing."""
    path = parquet(tmp_path / "a.parquet")
    try:
        files = find(path, tmp_path / "*.parquet")
    except UsageError:
        return
    ids = [unit.id for unit in cut(files.shards, 128)]
    assert len(set(ids)) == len(ids)


def test_files_on_an_object_store_are_found_under_their_address(memory: str) -> None:
    fs = fsspec.filesystem("memory")
    for name in ("b", "a"):
        buffer = io.BytesIO()
        pq.write_table(pa.table({"text": [name]}), buffer)
        fs.pipe_file(f"{memory}/{name}.parquet", buffer.getvalue())

    files = find(f"{memory}/*.parquet")
    assert [s.path.rpartition("/")[2] for s in files.shards] == ["a.parquet", "b.parquet"]
    assert all(s.path.startswith("memory://") for s in files.shards)
    assert files.rows == 2


def test_an_object_that_is_not_there_is_refused(memory: str) -> None:
    assert "no such file or folder" in refusal(f"{memory}/absent.parquet")


def test_a_link_that_leads_nowhere_is_left_out_and_said(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").symlink_to("/nonexistent.parquet")
    found = discover(Input(path=str(tmp_path)))

    assert found.rows == 1
    assert found.notes == (f"left out, a link that leads nowhere: {tmp_path / 'b.parquet'}",)
