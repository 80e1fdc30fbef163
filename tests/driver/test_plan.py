"""A plan: what a run would do, found out without an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

import pipeline
from pipeline import Job, UsageError
from pipeline.driver.plan.plan import Plan, check_input, make_plan
from pipeline.output.dataset import Dataset
from pipeline.output.tally import Tally
from pipeline.rows.work_order import unit_rows
from pipeline.storage.local import LocalStorage
from tests.support.samples import CHAT_TEMPLATE, job, json_lines, lines, write_model

pytestmark = pytest.mark.usefixtures("large_units")

TWEETS = [{"text": f"tweet {i}", "user": {"name": "x"}, "n": i} for i in range(300)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(TWEETS), tmp_path / "in.parquet", row_group_size=100)
    write_model(tmp_path / "model")
    return tmp_path


def job_in(folder: Path, **changes: Any) -> Job:
    return job(
        **{
            "model": str(folder / "model"),
            "input": {"path": str(folder / "in.parquet")},
            "output": {"path": str(folder / "out")},
        }
        | changes
    )


def refusal(folder: Path, **changes: Any) -> str:
    with pytest.raises(UsageError) as caught:
        check_input(job_in(folder, **changes))
    return str(caught.value)


def plan_of(folder: Path, **changes: Any) -> Plan:
    return pipeline.plan(job_in(folder, **changes))


class TestFields:
    def test_a_field_that_the_input_lacks_is_refused_with_the_nearest(self, folder: Path) -> None:
        said = refusal(folder, prompt="{txt}")

        assert "prompt uses {txt}, but the input has no such column" in said
        assert "columns: text, user, n" in said
        assert "did you mean {text}?" in said

    def test_a_jinja_field_is_checked_too(self, folder: Path) -> None:
        assert "{txt}" in refusal(folder, prompt={"jinja": "{{ txt }}"})

    def test_a_messages_column_is_checked_too(self, folder: Path) -> None:
        said = refusal(folder, prompt=None, messages={"column": "chat"})

        assert "messages uses {chat}" in said

    def test_a_member_of_a_struct_is_a_field(self, folder: Path) -> None:
        assert check_input(job_in(folder, prompt="{user.name}")).rows == 300

    def test_a_member_that_a_struct_lacks_is_refused(self, folder: Path) -> None:
        assert "{user.id}" in refusal(folder, prompt="{user.id}")

    def test_an_unknown_model_is_refused_before_the_input_is_read(self, folder: Path) -> None:
        assert "unknown model" in refusal(folder, model="gemma-4", input={"path": "absent"})


class TestRows:
    def test_a_plan_counts_all_rows_and_cuts_them_into_units(self, folder: Path) -> None:
        plan = plan_of(folder)

        assert plan.input.rows == 300
        assert sum(u.rows for u in plan.units) == 300
        assert plan.missing == plan.units

    @pytest.mark.parametrize(("asked", "planned"), [(5, 5), (300, 300), (999, 300)])
    def test_only_the_first_rows_may_be_asked_for(
        self, folder: Path, asked: int, planned: int
    ) -> None:
        inputs = check_input(job_in(folder), rows=asked)

        assert inputs.rows == planned
        assert sum(u.rows for u in inputs.units) == planned

    def test_an_empty_input_is_a_plan_of_no_rows(self, folder: Path) -> None:
        path = lines(folder / "empty.jsonl", [])
        plan = plan_of(folder, input={"path": path})

        assert plan.input.rows == 0
        assert plan.sample.rows == 0
        assert plan.sample.shape.longest == 0


class TestSample:
    def test_prompts_are_tokenized_as_the_run_will(self, folder: Path) -> None:
        """A token a letter, and <bos>."""
        path = json_lines(folder / "in.jsonl", [{"text": "abc"}, {"text": "abcde"}])
        sample = plan_of(folder, input={"path": path}).sample

        assert sample.rows == 2
        assert (sample.shape.mean, sample.shape.longest) == (5.0, 6)
        assert sample.lengths == {4: 1, 8: 1}

    def test_the_shared_prefix_is_found(self, folder: Path) -> None:
        sample = plan_of(folder, instructions="abc").sample

        assert sample.shape.shared_prefix == len("<") + len("abc\n\ntweet ")

    def test_rows_without_a_prompt_are_counted_by_reason(self, folder: Path) -> None:
        path = lines(
            folder / "in.jsonl", ['{"text": "a"}', '{"text": null}', "nonsense", '{"text": "b"}']
        )
        sample = plan_of(folder, input={"path": path}).sample

        assert sample.rows == 4
        assert sample.problems == {
            "InvalidRow: field 'text' of the prompt is null": 1,
            "InvalidRow: the line is not a JSON object": 1,
        }

    def test_a_sample_is_a_few_hundred_rows_from_all_over_the_input(self, folder: Path) -> None:
        """The prompts that are somewhat longer are in the last of 15 units."""
        texts = [{"text": "abc" * 30 + ("" if i < 14 * 128 else "!")} for i in range(15 * 128)]
        pq.write_table(pa.Table.from_pylist(texts), folder / "in.parquet")

        plan = plan_of(folder)
        assert len(plan.units) == 15
        assert plan.sample.rows <= 512
        assert plan.sample.shape.longest == len("<") + 91

    @pytest.mark.parametrize("units", [15, 200])
    def test_more_are_read_where_lengths_differ_much(self, folder: Path, units: int) -> None:
        """Prompts are short or long by turns of a hundred rows, a few very long: of two thousand
        rows all are taken, of many as many as that."""
        lengths = [2 + (i // 100) % 2 * 50 + (i % 61 == 0) * 400 for i in range(units * 128)]
        texts = [{"text": "a" * length} for length in lengths]
        pq.write_table(pa.Table.from_pylist(texts), folder / "in.parquet")

        sample = plan_of(folder).sample
        truth = 1 + sum(lengths) / len(lengths)
        assert sample.rows == min(len(texts), 2048)
        assert sample.shape.mean == pytest.approx(truth, rel=0.0001 if units == 15 else 0.08)


class TestModel:
    def test_messages_need_a_model_with_a_chat_template(self, folder: Path) -> None:
        messages = [{"role": "user", "content": "{text}"}]

        with pytest.raises(UsageError, match="messages need a chat template"):
            plan_of(folder, prompt=None, messages=messages)

    def test_messages_with_a_chat_template_are_sampled(self, folder: Path) -> None:
        write_model(folder / "model", chat_template=CHAT_TEMPLATE)
        messages = [{"role": "user", "content": "{text}"}]

        assert plan_of(folder, prompt=None, messages=messages).sample.rows > 0


class TestResume:
    def commit(self, plan: Plan, count: int) -> None:
        dataset = Dataset(LocalStorage(Path(plan.job.output.path)))
        dataset.take_over(plan.manifest)
        for unit in plan.units[:count]:
            table = pa.table({"n": list(range(unit.rows))})
            dataset.commit(unit, table, Tally(rows=unit.rows, prompt_tokens=1), {})

    def test_what_is_committed_is_not_missing(self, folder: Path) -> None:
        self.commit(plan_of(folder), 2)

        again = plan_of(folder)
        assert again.missing == again.units[2:]
        assert again.reused.rows == sum(u.rows for u in again.units[:2])

    def test_operational_settings_may_change_between_runs(self, folder: Path) -> None:
        self.commit(plan_of(folder), 1)

        again = plan_of(folder, resources={"workers": 3}, engine={"max_num_seqs": 2}, name="new")
        assert len(again.committed) == 1

    @pytest.mark.parametrize("then", [16, 64, 128])
    @pytest.mark.parametrize("workers", [1, 3])
    def test_an_output_goes_on_in_the_units_it_was_begun_with(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, then: int, workers: int
    ) -> None:
        """However large ones are made now, and whatever it goes on with."""
        monkeypatch.setattr("pipeline.driver.plan.plan.unit_rows", lambda *_: then)
        begun = plan_of(folder)
        self.commit(begun, 2)
        monkeypatch.setattr("pipeline.driver.plan.plan.unit_rows", unit_rows)

        again = plan_of(folder, resources={"workers": workers})
        assert again.units == begun.units
        assert again.missing == begun.units[2:]
        assert not again.changes

    def test_as_many_engines_find_work_as_there_are_sixteens_of_rows(self, folder: Path) -> None:
        """Units are cut for those who have nothing else."""
        plan = plan_of(folder)
        assert len(plan.units) == 3
        rows = [unit.rows for unit in plan.units]
        assert plan.most_engines == sum(-(-n // 16) for n in rows) > len(rows)

        self.commit(plan, len(rows) - 1)
        assert plan_of(folder).most_engines == -(-rows[-1] // 16)

    def test_another_prompt_is_refused_with_what_changed(self, folder: Path) -> None:
        self.commit(plan_of(folder), 1)

        with pytest.raises(UsageError, match="different job: prompt changed"):
            plan_of(folder, prompt="{text}!")

    def test_other_rows_are_done_again_and_the_change_is_said(self, folder: Path) -> None:
        self.commit(plan_of(folder), 1)
        pq.write_table(pa.Table.from_pylist(TWEETS[:9]), folder / "in.parquet")

        plan = plan_of(folder)
        assert (plan.reused.rows, plan.rows_left) == (0, 9)
        assert "in.parquet (300 → 9 rows" in plan.changes.lines()[0]

    def test_more_rows_go_on_from_fewer(self, folder: Path) -> None:
        """Whole units are kept; the one that was cut short is done again."""
        few = make_plan(check_input(job_in(folder), rows=130))
        self.commit(few, len(few.units))

        more = plan_of(folder)
        assert list(more.committed) == [few.units[0].id]
        assert [record.unit for record in more.outgrown] == [few.units[1].id]
        assert sum(u.rows for u in more.missing) == 300 - few.units[0].rows

    @pytest.mark.parametrize("rows", [130, 100, 1])
    def test_fewer_rows_than_are_there_are_refused(self, folder: Path, rows: int) -> None:
        whole = plan_of(folder)
        self.commit(whole, len(whole.units))

        with pytest.raises(UsageError, match=f"more than the first {rows} rows"):
            make_plan(check_input(job_in(folder), rows=rows))

    def test_a_file_in_place_of_the_output_folder_is_refused(self, folder: Path) -> None:
        (folder / "out").write_text("a file")

        with pytest.raises(UsageError, match=r"output\.path"):
            plan_of(folder)

    def test_other_weights_are_refused_with_what_changed(self, folder: Path) -> None:
        self.commit(plan_of(folder), 1)
        save_file({"more": np.ones(4, np.float32)}, folder / "model/more.safetensors")

        with pytest.raises(UsageError, match="different job: model changed"):
            plan_of(folder)

    def test_a_fresh_plan_counts_nothing_that_is_there(self, folder: Path) -> None:
        self.commit(plan_of(folder), 1)

        fresh = pipeline.plan(job_in(folder, prompt="{text}!"), fresh=True)
        assert fresh.missing == fresh.units
