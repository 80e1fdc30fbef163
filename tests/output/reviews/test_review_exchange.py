"""Reviews in the shapes of Argilla, Label Studio and CSV: out and back, and what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.output.reviews.exchange.files import Imported, read_reviews, write_reviews
from pipeline.service.review.labels import LabelSession, open_material
from pipeline.storage.base import Storage
from tests.support.labelled import labelled
from tests.support.processes import Finished

pytestmark = pytest.mark.usefixtures("large_units")

TEXTS = [f'text {i}, "quoted"\nand 2 lines\u202e =1+1' for i in range(60)]


def session_of(output: Storage, reviewer: str = "anna") -> LabelSession:
    return LabelSession(open_material(output.address(), None, 20), reviewer)


def write(session: LabelSession, path: Path, shape: Any = None) -> int:
    m = session.material
    return write_reviews(path, shape, m.sample, m.question, m.rows, session.answers())


def read(session: LabelSession, path: Path) -> Imported:
    m = session.material
    return read_reviews(path, m.sample, m.question, session.kept, session.reviewer, "now")


@pytest.fixture
def session(tmp_path: Path) -> LabelSession:
    """Two reviewers have answered; the second was unsure of one row."""
    output = labelled(tmp_path, 60, texts=TEXTS)
    anna, ben = session_of(output), session_of(output, "ben")
    for row in range(6):
        anna.answer(row, "good" if row % 2 else "bad")
    ben.answer(0, None)
    ben.answer(1, "bad")
    return anna


@pytest.mark.parametrize("shape", ["csv", "argilla", "label-studio"])
def test_what_is_written_reads_back_in_another_output_of_the_same_rows(
    session: LabelSession, tmp_path: Path, shape: str
) -> None:
    path = tmp_path / "reviews.file"
    assert write(session, path, shape) == 8
    (tmp_path / "other").mkdir()
    output = labelled(tmp_path / "other", 60, texts=TEXTS)
    fresh = LabelSession(open_material(output.address(), None, 60), "cleo")  # of all rows

    assert read(fresh, path) == Imported(taken=8, known=0, elsewhere=0)
    assert read(fresh, path) == Imported(taken=0, known=8, elsewhere=0)
    assert read(session, path) == Imported(taken=0, known=8, elsewhere=0)

    def told(one: LabelSession) -> dict[str, dict[Any, str | None]]:
        return {
            name: {place: answer.value for place, answer in given.items()}
            for name, given in one.answers().items()
        }

    assert told(fresh) == told(session)


def test_csv_has_a_line_for_each_row_and_reviewer(session: LabelSession, tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    write(session, path)
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 22  # of 20 rows two have two reviewers
    assert [line["reviewer"] for line in lines[:4]] == ["anna", "ben", "anna", "ben"]
    assert (lines[1]["value"], lines[1]["unsure"]) == ("", "yes")
    assert lines[0]["text"] == TEXTS[int(lines[0]["_row"])]
    assert lines[0]["model"] in ("bad", "good")
    assert 0 < float(lines[0]["inclusion_probability"]) < 1
    assert {line["part"] for line in lines} == {"random", "uncertain"}


def test_argilla_gets_suggestions_and_responses(session: LabelSession, tmp_path: Path) -> None:
    path = tmp_path / "records.json"
    write(session, path, "argilla")
    first = json.loads(path.read_text())[0]
    assert first["fields"]["text"] == TEXTS[first["metadata"]["row"]]
    assert first["suggestions"]["label"].keys() == {"value", "score", "agent"}
    statuses = [one["status"] for one in first["responses"]["label"]]
    assert statuses == ["submitted", "discarded"]


def test_label_studio_gets_predictions_and_annotations(
    session: LabelSession, tmp_path: Path
) -> None:
    path = tmp_path / "tasks.json"
    write(session, path, "label-studio")
    first = json.loads(path.read_text())[0]
    assert first["data"]["text"] == TEXTS[first["data"]["rackmill"]["row"]]
    [result] = first["predictions"][0]["result"]
    assert result.keys() == {"from_name", "to_name", "type", "value"}
    assert [one["was_cancelled"] for one in first["annotations"]] == [False, True]


def place(session: LabelSession, number: int = 10) -> dict[str, Any]:
    file, row = session.places[number]
    return {"file": file, "row": row}


class TestFromOtherTools:
    def test_argilla_as_it_gives_records_back(self, session: LabelSession, tmp_path: Path) -> None:
        user = "3f0b4f0e-6d0c-4b43-9d52-1b6f4c0a7d11"
        records = [
            {
                "id": "x", "fields": {}, "metadata": place(session, 10 + n), "status": "completed",
                "responses": {"label": [{"value": "good", "user_id": user, "status": status}],
                              "other": [{"value": "x", "user_id": user}]},
            }
            for n, status in enumerate(["submitted", "draft", "discarded"])
        ]  # fmt: skip
        path = tmp_path / "a.json"
        path.write_text(json.dumps(records))
        assert read(session, path) == Imported(2, 0, 0)
        assert [a.value for a in session.answers()[user].values()] == ["good", None]

    def test_argilla_1(self, session: LabelSession, tmp_path: Path) -> None:
        response = {"values": {"label": {"value": "bad"}}, "user_id": None, "status": "submitted"}
        record = {"fields": {}, "metadata": place(session), "responses": [response]}
        path = tmp_path / "a.jsonl"
        path.write_text(json.dumps(record) + "\n")
        assert read(session, path).taken == 1
        assert session.own()[session.places[10]].value == "bad"  # of whom the file does not say

    def test_label_studio_as_it_exports(self, session: LabelSession, tmp_path: Path) -> None:
        def result(name: str, *choices: str) -> dict[str, Any]:
            value = {"choices": list(choices)}
            return {"from_name": name, "to_name": "text", "type": "choices", "value": value}

        task = {
            "id": 1, "data": {"rackmill": place(session)},
            "annotations": [
                {"completed_by": 7, "result": [result("label", "good"), result("other", "x")]},
                {"completed_by": {"email": "b@c.org"}, "result": [], "was_cancelled": True},
                {"completed_by": 8, "result": [result("other", "good", "bad")]},
            ],
        }  # fmt: skip
        path = tmp_path / "l.json"
        path.write_text(json.dumps([task]))
        assert read(session, path).taken == 2
        answers = session.answers()
        assert answers["7"][session.places[10]].value == "good"
        assert answers["b@c.org"][session.places[10]].value is None

    def test_csv_by_hand_as_excel_writes_it(self, session: LabelSession, tmp_path: Path) -> None:
        one = place(session)
        path = tmp_path / "c.csv"
        path.write_text(f"\ufeff_row,_file,value\r\n{one['row']},{one['file']},good\r\n,,\r\n")
        assert read(session, path).taken == 1

    def test_rows_that_were_not_drawn_are_left(self, session: LabelSession, tmp_path: Path) -> None:
        drawn = {row for _, row in session.places}
        other = min(set(range(60)) - drawn)
        path = tmp_path / "c.csv"
        path.write_text(f"_file,_row,value\n{session.places[0][0]},{other},good\n")
        assert read(session, path) == Imported(0, 0, 1)


class TestRefusals:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "no column '_file'"),
            ("_file,_row,valu\n", "no column 'value'"),
            ("_file,_row,value\na,x,good\n", "line 2: _row is 'x'"),
            ("_file,_row,value\na,1,god\n", "line 2: 'god' is not one of the choices"),
            ("[1]", "record 1 is no object"),
            ("[" * 100_000, "not JSON"),
            ('[{"x": 1}]', "neither a record of Argilla's"),
            ('[{"data": {}}]', "record 1: its data.rackmill"),
            ('[{"fields": {}}]', "record 1: its metadata"),
            ('[{"fields": {}, "metadata": {"file": "a", "row": true}}]', "record 1: its metadata"),
        ],
    )
    def test_a_file_that_is_none_is_named_and_nothing_is_kept(
        self, session: LabelSession, tmp_path: Path, content: str, message: str
    ) -> None:
        path = tmp_path / "in.file"
        path.write_text(content)
        before = session.answers()
        with pytest.raises(UsageError, match=r"in\.file") as e:
            read(session, path)
        assert message in e.value.message
        assert session.answers() == before

    def test_an_annotation_with_two_choices_is_refused(
        self, session: LabelSession, tmp_path: Path
    ) -> None:
        chosen = {"from_name": "label", "type": "choices", "value": {"choices": ["good", "bad"]}}
        task = {"data": {"rackmill": place(session)}, "annotations": [{"result": [chosen]}]}
        path = tmp_path / "l.json"
        path.write_text(json.dumps([task]))
        with pytest.raises(UsageError, match="record 1: an annotation chooses good, bad"):
            read(session, path)
        assert session.places[10] not in session.own()

    def test_one_wrong_value_keeps_all_others_out(
        self, session: LabelSession, tmp_path: Path
    ) -> None:
        one = place(session)
        path = tmp_path / "in.csv"
        path.write_text(
            f"_file,_row,value\n{one['file']},{one['row']},good\n{one['file']},1,goood\n"
        )
        with pytest.raises(UsageError) as e:
            read(session, path)
        assert "did you mean good?" in e.value.hints
        assert session.places[10] not in session.own()

    def test_two_answers_of_one_reviewer_to_one_row_are_refused_unless_they_are_the_same(
        self, session: LabelSession, tmp_path: Path
    ) -> None:
        one = place(session)
        row = f"{one['file']},{one['row']}"
        path = tmp_path / "in.csv"
        path.write_text(f"_file,_row,value,reviewer\n{row},good,cleo\n{row},bad,cleo\n")
        with pytest.raises(UsageError, match=r"line 3: cleo says 'bad' .* 'good' .* line 2"):
            read(session, path)
        assert "cleo" not in session.answers()
        path.write_text(
            f"_file,_row,value,reviewer\n{row},good,cleo\n{row},good,cleo\n{row},bad,dan\n"
        )
        assert read(session, path) == Imported(2, 0, 0)

    def test_a_file_that_is_not_text_or_not_there(
        self, session: LabelSession, tmp_path: Path
    ) -> None:
        (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
        for name, message in (("bytes", "not UTF-8"), ("nothing", "no such file")):
            with pytest.raises(UsageError, match=message):
                read(session, tmp_path / name)

    def test_a_json_file_has_to_be_of_one_of_the_tools(
        self, session: LabelSession, tmp_path: Path
    ) -> None:
        with pytest.raises(UsageError, match="for which tool"):
            write(session, tmp_path / "out.json")


class TestCommand:
    @pytest.fixture(autouse=True)
    def _output(self, tmp_path: Path) -> None:
        labelled(tmp_path, 60)

    def test_out_and_in(self, ask: Callable[..., Finished], tmp_path: Path) -> None:
        ended = ask("review", "out", "--rows", 20, "--export", "r.csv")
        assert ended.out == "20 rows with 0 answers → r.csv\n"
        lines = (tmp_path / "r.csv").read_text().splitlines()
        head, first = lines[0], lines[1].split(",")
        first[5] = "good"
        (tmp_path / "r.csv").write_text(f"{head}\n{','.join(first)}\n")
        told = ask("review", "out", "--reviewer", "anna", "--import", "r.csv", "--json").json
        assert told["imported"] == {"file": "r.csv", "taken": 1, "known": 0, "elsewhere": 0}
        ended = ask("review", "out", "--reviewer", "anna", "--import", "r.csv")
        assert ended.out == "0 answers taken from r.csv, 1 were there already\n"

    def test_a_file_that_is_there_is_not_replaced_unasked(
        self, ask: Callable[..., Finished], tmp_path: Path
    ) -> None:
        (tmp_path / "r.csv").write_text("mine")
        ended = ask("review", "out", "--export", "r.csv")
        assert (ended.code, (tmp_path / "r.csv").read_text()) == (2, "mine")
        assert ask("review", "out", "--export", "r.csv", "--force").code == 0
        assert ask("review", "out", "--export", "out/r.csv").code == 2
