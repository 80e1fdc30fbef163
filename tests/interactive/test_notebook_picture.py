"""What a notebook shows of a result: text from outside is text there, and secrets stay hidden."""

from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa
import pytest

from pipeline.interactive import result
from pipeline.interactive.result import Result


def test_secrets_marks_and_codes_in_cells_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = "<b> s3://me:password@bucket \x1b[2J \u202e"
    table = pa.table({"text": [cell], cell: ["x"]})
    rows = SimpleNamespace(
        first=lambda count: table, kept=tuple(table.column_names), answer_columns=()
    )
    monkeypatch.setattr(result, "StoredRows", lambda output: rows)
    asked = {"mood": {"labels": {cell: 1}}}
    summary = SimpleNamespace(
        name="n", rows=1, failed=0, seconds=1.0, accuracy=None, labels={cell: 1}, questions=asked,
        output="out",
    )  # fmt: skip

    html = Result(summary)._repr_html_()  # type: ignore[arg-type]

    assert html.count("&lt;b&gt; s3://me:***@bucket \\x1b[2J \\u202e") == 4
    assert "password" not in html
