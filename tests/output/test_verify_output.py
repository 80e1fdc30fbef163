"""Each kind of damage to a finished dataset is found, named and located; none is found in a whole
one."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline import UsageError
from pipeline.input.units import part
from pipeline.output.commit.commit_tree import commit_rows
from pipeline.output.commit.records import ATTEMPTS, COMMITS
from pipeline.output.dataset import Dataset
from pipeline.output.verify.dataset import Verification, verify
from pipeline.storage.base import open_storage
from tests.support.datasets import begin, commit_unit, finish, job_in, write_input

ROWS = (300, 100)  # units of 128, 128, 44 and 100 rows


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an input and its finished output; row 5 and row 310 failed."""
    folder = tmp_path_factory.mktemp("whole")
    write_input(folder / "rows", *ROWS)
    finish(job_in(folder), fails=lambda row: row in (5, 310))
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of the output that may be damaged; the input is the original."""
    shutil.copytree(whole / "out", tmp_path / "out")
    return tmp_path / "out"


def look(folder: Path) -> Verification:
    return verify(open_storage(str(folder)))


def complaint(folder: Path) -> str:
    """The one fault that is found."""
    verdict = look(folder)
    assert len(verdict.faults) == 1, verdict.faults
    [fault] = verdict.faults
    assert fault.fix
    return f"{fault.where}: {fault.what}"


def data_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("0*.parquet"))


def records(folder: Path) -> list[Path]:
    return sorted((folder / COMMITS).glob("*.json"))


def record_of(folder: Path, file: str) -> Path:
    return next(p for p in records(folder) if json.loads(p.read_text()).get("file") == file)


def change_table(
    folder: Path,
    change: Callable[[pa.Table], pa.Table],
    number: int = 0,
    metadata: dict[str, str] | None = None,
) -> str:
    """Write a data file anew with its record saying so: what hashes alone would not show."""
    path = data_files(folder)[number]
    kept = metadata or pq.read_schema(path).metadata
    pq.write_table(change(pq.read_table(path)).replace_schema_metadata(kept), path)
    record, content = record_of(folder, path.name), path.read_bytes()
    facts = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    record.write_text(json.dumps(json.loads(record.read_text()) | facts))
    return path.name


def set_column(table: pa.Table, name: str, values: list[object]) -> pa.Table:
    index = table.schema.get_field_index(name)
    field = table.schema.field(name)
    return table.set_column(index, field, pa.array(values, field.type))


def test_a_whole_dataset_has_no_fault(folder: Path) -> None:
    verdict = look(folder)

    assert verdict.ok
    assert (verdict.rows, verdict.files, verdict.compared_rows) == (400, 4, 400)
    assert verdict.notes == []


def test_a_folder_without_a_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no output of rackmill"):
        look(tmp_path)


class TestFiles:
    def test_a_flipped_bit_is_found(self, folder: Path) -> None:
        path = data_files(folder)[1]
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 1
        path.write_bytes(content)

        assert complaint(folder).startswith(f"{path.name}: its content is not what was committed")

    def test_a_file_that_is_gone_is_found(self, folder: Path) -> None:
        data_files(folder)[2].unlink()

        assert "a committed file is gone" in complaint(folder)

    def test_a_file_of_another_size_is_found(self, folder: Path) -> None:
        path = data_files(folder)[2]
        path.write_bytes(path.read_bytes()[:-1])

        assert "bytes instead of" in complaint(folder)

    def test_a_file_that_no_record_names_is_found(self, folder: Path) -> None:
        shutil.copy(data_files(folder)[0], folder / "00007-000000000000.parquet")

        assert "no record names" in complaint(folder)

    @pytest.mark.parametrize("name", ["mine.parquet", "notes.txt", "part=1/mine.parquet"])
    def test_a_foreign_file_is_found(self, name: str, folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")

        assert "readers would take it for data" in complaint(folder)

    @pytest.mark.parametrize("name", [".hidden", "_metadata"])
    def test_a_file_that_readers_pass_over_does_not_matter(self, name: str, folder: Path) -> None:
        (folder / name).write_text("mine")

        assert look(folder).ok

    def test_an_abandoned_attempt_is_only_noted(self, folder: Path) -> None:
        (folder / ATTEMPTS).mkdir(exist_ok=True)
        (folder / ATTEMPTS / "ab-cd.parquet").write_bytes(b"half")
        verdict = look(folder)

        assert verdict.ok
        assert "rackmill clean" in verdict.notes[0]


class TestRecords:
    def test_a_record_that_is_gone_is_found_with_its_rows_and_its_file(self, folder: Path) -> None:
        file = data_files(folder)[1].name
        record_of(folder, file).unlink()
        faults = {f.what: f.where for f in look(folder).faults}

        assert faults["128 rows of the input have no result"].endswith("a.parquet, rows 128–256")
        assert file in faults.values()
        assert "the dataset is marked as whole and is not" in faults

    def test_a_damaged_record_is_found(self, folder: Path) -> None:
        path = records(folder)[0]
        path.write_text(path.read_text()[:-9])

        assert any(
            f.what == "a commit record is damaged" and f.where == f"{COMMITS}/{path.name}"
            for f in look(folder).faults
        )

    def test_a_record_that_leads_out_of_the_folder_is_damaged(self, folder: Path) -> None:
        path = records(folder)[0]
        path.write_text(json.dumps(json.loads(path.read_text()) | {"file": "../../other"}))

        assert any(f.what == "a commit record is damaged" for f in look(folder).faults)

    def test_a_record_of_another_input_is_found(self, folder: Path) -> None:
        fields = json.loads(records(folder)[0].read_text()) | {"unit": "feed"}
        (folder / COMMITS / "feed.json").write_text(json.dumps(fields))

        assert "a unit that is not one of this input" in complaint(folder)

    def test_a_cut_outside_of_its_unit_is_found(self, folder: Path) -> None:
        path = record_of(folder, data_files(folder)[0].name)
        path.write_text(json.dumps({"unit": path.stem, "cut": 4000}))

        assert any("before row 4000" in f.what for f in look(folder).faults)

    def test_a_record_that_counts_other_rows_is_found(self, folder: Path) -> None:
        path = record_of(folder, data_files(folder)[0].name)
        fields = json.loads(path.read_text())
        fields["tally"]["rows"] = 127
        path.write_text(json.dumps(fields))

        assert any("counts 127 rows of a unit of 128" in f.what for f in look(folder).faults)

    def test_units_that_were_cut_are_whole(self, tmp_path: Path) -> None:
        write_input(tmp_path / "rows", *ROWS)
        plan, dataset = begin(job_in(tmp_path))
        first = plan.units[0]

        def rows(start: int, stop: int) -> tuple[pa.Table, object]:
            record = commit_unit(
                plan, Dataset(open_storage(str(tmp_path / "x"))), part(first, start, stop)
            )
            return pq.read_table(tmp_path / "x" / record.file), record.tally

        commit_rows(dataset, part(first, 0, 50), rows, {})
        finish(job_in(tmp_path))
        verdict = look(tmp_path / "out")

        assert verdict.ok, verdict.faults
        assert verdict.files == 5


class TestRows:
    def test_a_row_that_is_there_twice_is_found(self, folder: Path) -> None:
        def twice(table: pa.Table) -> pa.Table:
            return pa.concat_tables([table.slice(0, 1), table.slice(0, table.num_rows - 1)])

        change_table(folder, twice, 2)

        assert "column 'id' is not that of row 257" in complaint(folder)

    def test_rows_in_another_order_are_found(self, folder: Path) -> None:
        change_table(folder, lambda t: t.take(list(reversed(range(t.num_rows)))), 3)

        assert "column 'id' is not that of row 0" in complaint(folder)

    def test_a_row_less_than_its_record_says_is_found(self, folder: Path) -> None:
        change_table(folder, lambda t: t.slice(1))

        assert "has 127 rows, its record says 128" in complaint(folder)

    def test_another_schema_is_found(self, folder: Path) -> None:
        change_table(folder, lambda t: t.append_column("more", pa.array([1] * t.num_rows)))

        assert "has another schema" in complaint(folder)

    def test_a_kept_value_that_is_not_the_inputs_is_found(self, folder: Path) -> None:
        def change(table: pa.Table) -> pa.Table:
            texts = table.column("text").to_pylist()
            texts[7] = "something else"
            return set_column(table, "text", texts)

        file = change_table(folder, change)

        assert complaint(folder).startswith(f"{file}, row 7: column 'text' is not that of row 7")

    def test_an_error_of_unknown_type_is_found(self, folder: Path) -> None:
        def change(table: pa.Table) -> pa.Table:
            errors = table.column("error").to_pylist()
            errors[5]["type"] = "Gremlins"
            return set_column(table, "error", errors)

        change_table(folder, change)

        assert any("unknown type: Gremlins" in f.what for f in look(folder).faults)

    @pytest.mark.parametrize(
        ("change", "says"),
        [({"message": None}, "without a message"), ({"attempts": -1}, "attempts are no count")],
    )
    def test_an_error_that_is_not_well_formed_is_found(
        self, change: dict[str, object], says: str, folder: Path
    ) -> None:
        def apply(table: pa.Table) -> pa.Table:
            errors = table.column("error").to_pylist()
            errors[5] |= change
            return set_column(table, "error", errors)

        change_table(folder, apply)

        assert says in complaint(folder)

    def test_a_row_with_neither_answer_nor_error_is_found(self, folder: Path) -> None:
        def change(table: pa.Table) -> pa.Table:
            return set_column(table, "completion", [None] * table.num_rows)

        change_table(folder, change, 2)

        assert "44 rows with neither an answer nor an error" in complaint(folder)

    def test_counts_that_are_not_those_of_the_rows_are_found(self, folder: Path) -> None:
        def change(table: pa.Table) -> pa.Table:
            return set_column(table, "prompt_tokens", [8] * table.num_rows)

        change_table(folder, change)

        assert "comes to 1 024 prompt_tokens, its record says 896" in complaint(folder)

    def test_rows_of_another_job_are_found(self, folder: Path) -> None:
        change_table(folder, lambda t: t, metadata={"rackmill.fingerprint": "f" * 64})

        assert "comes from another job" in complaint(folder)


class TestTheEnd:
    def test_a_missing_marker_is_found(self, folder: Path) -> None:
        (folder / "_SUCCESS").unlink()

        assert "did not come to its end" in complaint(folder)

    def test_a_marker_on_an_unfinished_dataset_is_found(self, tmp_path: Path) -> None:
        write_input(tmp_path / "rows", *ROWS)
        plan, dataset = begin(job_in(tmp_path))
        commit_unit(plan, dataset, plan.units[0])
        (tmp_path / "out/_SUCCESS").write_bytes(b"")
        said = [f.what for f in look(tmp_path / "out").faults]

        assert said == [
            "172 rows of the input have no result",
            "100 rows of the input have no result",
            "the dataset is marked as whole and is not",
        ]

    def test_a_summary_that_counts_otherwise_is_found(self, folder: Path) -> None:
        path = folder / "_rackmill/summary.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"failed": 3}))

        assert "the summary says failed 3, the rows come to 2" in complaint(folder)

    def test_a_summary_that_is_gone_is_found(self, folder: Path) -> None:
        (folder / "_rackmill/summary.json").unlink()

        assert "the summary is gone" in complaint(folder)


class TestInput:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        write_input(tmp_path / "rows", *ROWS)
        finish(job_in(tmp_path))
        return tmp_path / "out"

    def test_an_input_that_is_gone_is_said_and_is_no_fault(self, folder: Path) -> None:
        (folder.parent / "rows/b.parquet").unlink()
        verdict = look(folder)

        assert verdict.ok
        assert verdict.compared_rows == 300
        assert "b.parquet is gone" in verdict.notes[0]

    def test_an_input_that_changed_is_said_and_is_no_fault(self, folder: Path) -> None:
        write_input(folder.parent / "rows", 10)
        verdict = look(folder)

        assert verdict.ok
        assert verdict.compared_rows == 100
        assert "a.parquet changed since" in verdict.notes[0]

    def test_a_dataset_is_verified_from_any_working_folder(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir("/")

        assert look(folder).compared_rows == 400

    def test_the_first_rows_of_an_input_are_a_whole_dataset(
        self, folder: Path, tmp_path: Path
    ) -> None:
        finish(job_in(tmp_path, output={"path": str(tmp_path / "few")}), rows=310)
        verdict = look(tmp_path / "few")

        assert verdict.ok, verdict.faults
        assert verdict.rows == 310

    @pytest.mark.parametrize("rows", [[1.5, float("nan"), None], [None, None, None]])
    def test_values_that_are_unlike_themselves_are_the_same(
        self, rows: list[float | None], folder: Path, tmp_path: Path
    ) -> None:
        table = pa.table(
            {"id": [0, 1, 2], "text": ["a", "b", "c"], "x": pa.array(rows, pa.float64())}
        )
        pq.write_table(table, tmp_path / "rows/a.parquet")
        (tmp_path / "rows/b.parquet").unlink()
        finish(job_in(tmp_path, output={"path": str(tmp_path / "other")}))

        assert look(tmp_path / "other").compared_rows == 3


def test_python_asks_the_same(whole: Path) -> None:
    verdict = pipeline.verify(str(whole / "out"))

    assert verdict.faults == []
    assert pipeline.status(str(whole / "out")).errors == {"SchemaNotMet": 2}
