"""Whole jobs over a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
from aiohttp import web

from tests.chaos.in_process import run_here
from tests.engine.http.fake_server import PROPS, FakeServer, llama, llama_answer
from tests.engine.http.test_openai_server import lm_studio
from tests.support.datasets import job_in, write_input


def rows_of(folder: Path, url: str, kind: str = "llama.cpp", **changes: Any) -> dict[str, Any]:
    write_input(folder / "rows", 40)
    engine = {"kind": kind, "url": url, "max_num_seqs": 4}
    run_here(job_in(folder, engine=engine, **changes))
    rows: dict[str, Any] = ds.dataset(folder / "out").to_table().to_pydict()
    return rows


def test_every_row_has_its_answer_once_and_in_its_place(tmp_path: Path) -> None:
    with FakeServer(llama) as server:
        rows = rows_of(tmp_path, server.url)

    assert rows["id"] == list(range(40))
    assert set(rows["completion"]) == {"yes"}
    assert set(rows["error"]) == {None}


def test_labels_are_weighed_by_the_log_probabilities_that_the_server_tells(tmp_path: Path) -> None:
    with FakeServer(llama) as server:
        rows = rows_of(tmp_path, server.url, label={"choices": ["yes", "no"]})

    assert all(0.5 <= one <= 1 for one in rows["confidence"])
    assert len(rows["label"]) == 40


def test_without_log_probabilities_a_label_has_no_confidence(tmp_path: Path) -> None:
    with FakeServer(lm_studio(tmp_path)) as server:
        label = {"choices": ["yes", "no"]}
        rows = rows_of(tmp_path, server.url, "lmstudio", label=label)

    assert set(rows["label"]) == {"yes"}
    assert set(rows["confidence"]) == {None}


def test_what_a_server_will_not_do_for_a_row_is_that_rows_error(tmp_path: Path) -> None:
    async def picky(request: web.Request, body: Any) -> web.StreamResponse:
        if request.path == "/props":
            return web.json_response(PROPS)
        if len(body["prompt"]) % 2:
            return web.json_response({"error": {"message": "odd"}}, status=400)
        return web.json_response(llama_answer(body))

    with FakeServer(picky) as server:
        rows = rows_of(tmp_path, server.url)

    assert rows["id"] == list(range(40))
    failed = [error is not None for error in rows["error"]]
    assert failed == [completion is None for completion in rows["completion"]]
    assert 0 < sum(failed) < 40
