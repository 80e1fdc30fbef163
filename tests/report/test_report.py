"""report.md, as a reader of Markdown sees it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.budget.predict import Prediction
from pipeline.engine.protocol import EngineFacts
from pipeline.output.tally import Tally
from pipeline.report.energy import Energy
from pipeline.report.fixes import FIXES
from pipeline.report.report import write_report
from pipeline.report.summary import Summary, Work, measured
from pipeline.rows.error_reasons import OTHERS

FACTS = EngineFacts("simulated", "1", "none", 4096, 256, 2048, 16, 1000, 1 << 30)


def report(
    total: Tally,
    sample: Sequence[Mapping[str, Any]] = (),
    *,
    answers: int = 1,
    drawn: int = 1,
    **more: Any,
) -> str:
    work = Work(rows=total.rows, seconds=2.0, engines=(FACTS,))
    provenance = {
        "model": "gemma-3-270m",
        "quantization": "int4 group 32",
        "fingerprint": "0123456789abcdef0123",
        "vllm_version": "0.32.0",
    }
    summary = Summary(
        name="label-tweets",
        reused=0,
        seconds=9.0,
        output="out",
        report="out/report.md",
        answers=answers,
        drawn=drawn,
        **measured(total, work, provenance, **more),
    )
    return write_report(summary, total, sample, "Gemma Terms of Use")


def table_below(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table after a heading, its head first."""
    after = text.partition(f"## {heading}")[2].splitlines()
    start = next(i for i, line in enumerate(after) if line.startswith("|"))
    rows = []
    for line in after[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    del rows[1]
    return rows


def test_a_report_says_what_ran() -> None:
    text = report(Tally(rows=3))

    assert text.startswith("# label-tweets\n")
    assert "gemma-3-270m, int4 group 32" in text
    assert "simulated 1 on none: 1.0 GiB KV cache" in text
    assert "vllm 0.32.0" in text
    assert "`0123456789abcdef`" in text


def test_a_report_counts_rows_and_tokens() -> None:
    cells = dict(table_below(report(Tally(rows=10, failed=2, prompt_tokens=99)), "Counts")[1:])

    assert (cells["rows"], cells["succeeded"], cells["failed"]) == ("10", "8", "2")
    assert cells["prompt tokens"] == "99"
    assert cells["rows/s"] == "5.0"


def test_errors_come_with_an_example_and_a_mend() -> None:
    total = Tally(
        rows=5,
        failed=3,
        errors=Counter({"InvalidRow": 2, "SchemaNotMet": 1}),
        error_examples={"InvalidRow": "field 'text' of the prompt is null"},
    )

    _, first, second = table_below(report(total), "Errors")
    assert first[:3] == ["InvalidRow", "2", "field 'text' of the prompt is null"]
    assert first[3] == FIXES["InvalidRow"]
    assert second[:2] == ["SchemaNotMet", "1"]


def test_different_reasons_of_one_type_of_error_are_told_apart() -> None:
    total = Tally(
        rows=5,
        failed=3,
        errors=Counter({"InvalidRow": 3}),
        error_examples={"InvalidRow": "column 'a' is null"},
        error_reasons=Counter({"InvalidRow\tcolumn 'a' is null": 1, "InvalidRow\tno text": 2}),
    )

    _, first, second = table_below(report(total), "Errors")
    assert first[:3] == ["InvalidRow", "2", "no text"]
    assert second[:3] == ["InvalidRow", "1", "column 'a' is null"]


def test_the_reasons_of_errors_add_up_also_where_an_earlier_version_counted_none() -> None:
    total = Tally(
        rows=200,
        failed=102,
        errors=Counter({"SchemaNotMet": 102}),
        error_reasons=Counter({"SchemaNotMet\tno JSON": 1, "SchemaNotMet\tcut off": 1}),
    )

    _, *lines = table_below(report(total), "Errors")
    assert [line[1:3] for line in lines] == [["1", "cut off"], ["1", "no JSON"], ["100", OTHERS]]


def test_without_errors_there_is_no_section_for_them() -> None:
    assert "## Errors" not in report(Tally(rows=5))


def test_the_confusion_matrix_has_gold_answers_down_and_labels_across() -> None:
    total = Tally(
        rows=10,
        labels=Counter({"good": 6, "bad": 4}),
        confusion=Counter({"good\tgood": 5, "good\tbad": 1, "bad\tgood": 1, "bad\tbad": 3}),
    )
    text = report(total, gold="truth")
    matrix = table_below(text.replace("Agreement", "## Agreement"), "Agreement")

    assert "Agreement with `truth`: 0.800 over 10 rows." in text
    assert matrix == [["truth ↓, label →", "bad", "good"], ["bad", "3", "1"], ["good", "1", "5"]]


def test_labels_have_their_shares_of_the_rows_that_succeeded() -> None:
    total = Tally(rows=5, failed=1, labels=Counter({"good": 3, "bad": 1}))

    assert table_below(report(total), "Labels")[1:] == [
        ["good", "3", "75.0%"],
        ["bad", "1", "25.0%"],
    ]


def test_free_text_has_its_agreement_and_no_matrix() -> None:
    text = report(Tally(rows=4, confusion=Counter({"right": 3, "wrong": 1})), gold="truth")

    assert "Agreement with `truth`: 0.750 over 4 rows." in text
    assert "label →" not in text


def test_answers_of_which_a_row_has_several_are_not_called_rows() -> None:
    graded = Counter({"right": 3, "wrong": 5})
    total = Tally(rows=2, confusion=graded, completion_lengths=Counter({64: 8}))
    text = report(total, gold="truth", answers=4, drawn=4)

    assert "Agreement with `truth`: 0.375 over 8 answers." in text
    assert table_below(text, "Completion lengths")[0][:2] == ["tokens", "answers"]


def test_what_answers_voted_for_is_graded_by_row() -> None:
    graded = Counter({"right": 1, "wrong": 1})
    total = Tally(rows=2, confusion=graded, completion_lengths=Counter({64: 10}))
    text = report(total, gold="truth", drawn=5)

    assert "over 2 rows." in text
    assert table_below(text, "Completion lengths")[0][:2] == ["tokens", "answers"]


def test_without_labels_there_is_no_section_for_them() -> None:
    assert "## Labels" not in report(Tally(rows=5))


def test_lengths_are_ranges_of_tokens() -> None:
    total = Tally(rows=6, prompt_lengths=Counter({64: 4, 1: 1, 4: 1}))

    rows = table_below(report(total), "Prompt lengths")[1:]
    assert [row[:2] for row in rows] == [["≤ 1", "1"], ["3–4", "1"], ["33–64", "4"]]
    assert len(rows[2][2]) > len(rows[0][2]) > 0


def row(**values: Any) -> dict[str, Any]:
    return {"text": "x", "completion": "y", "prompt_tokens": 1, "error": None} | values


def test_a_few_rows_are_shown_without_what_is_in_none() -> None:
    head, first = table_below(report(Tally(rows=1), [row()]), "1 row")

    assert (head, first) == (["text", "completion"], ["x", "y"])


def test_an_error_among_the_rows_shown_is_named() -> None:
    failed = row(completion=None, error={"type": "InvalidRow", "message": "m", "attempts": 0})

    head, first, second = table_below(report(Tally(rows=2), [row(), failed]), "2 rows")
    assert head == ["text", "completion", "error"]
    assert (first[2], second[1:]) == ("", ["", "InvalidRow"])


def test_a_struct_of_the_input_is_shown_whole() -> None:
    _, [_, _, kept] = table_below(report(Tally(rows=1), [row(kept={"type": "a", "n": 1})]), "1 row")

    assert kept == "{'type': 'a', 'n': 1}"


def test_no_text_breaks_a_table() -> None:
    shown = row(text="a|b\nc\r\n| d |", completion="z" * 500)

    [_, cells] = table_below(report(Tally(rows=1), [shown]), "1 row")
    assert cells[0] == r"a\|b c \| d \|"
    assert len(cells[1]) < 100


def test_a_report_names_the_models_terms() -> None:
    assert "Gemma Terms of Use" in report(Tally(rows=1))


def test_measured_energy_stands_beside_what_was_predicted() -> None:
    text = report(
        Tally(rows=2000),
        energy=Energy(7.2e6, 1.0, 100.0),
        price_kwh=0.3,
        foretold=Prediction(1, 1, 1, 3, "measured", 1),
        predicted_kwh=2.2,
    )
    cells = dict(table_below(text, "Energy"))

    assert cells["measured"] == "2 kWh"
    assert cells["for 1 000 rows"] == "1 kWh"
    assert cells["predicted"] == "2.2 kWh (+10%)"
    assert cells["cost"] == "0.6"
    assert "Of whole cards (or processors) while engines had them, by their own counters" in text


def test_energy_of_which_a_part_was_not_metered_is_not_claimed() -> None:
    text = report(Tally(rows=2000), energy=Energy(7.2e6, 0.75, 100.0))

    assert "Only 75% of the engines' time was metered: no figure is claimed." in text
    assert "kWh" not in text


def test_without_a_meter_nothing_is_said_of_energy() -> None:
    assert "Energy" not in report(Tally(rows=2000))
