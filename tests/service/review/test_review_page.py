"""The page over HTTP: who may speak to it, and that a row's text is text."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from pipeline.output.reviews.gold import gold_of
from pipeline.storage.base import Storage
from tests.support.labelled import labelled
from tests.support.served_review import Served

HX = {"HX-Request": "true"}
EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>'\"&amp; {{7*7}} \x00\x1b[2J\u202eevil"


@pytest.fixture
def output(tmp_path: Path) -> Storage:
    return labelled(tmp_path, 60)


@pytest.fixture
def page(serve: Callable[..., Served], output: Storage) -> Served:
    return serve(output)


class TestWhoMaySpeak:
    def test_the_token_of_the_address_lets_in_and_stays_in_a_cookie(self, page: Served) -> None:
        client = page.client(let_in=False)
        assert client.get("/").status_code == 403
        assert client.get("/?token=wrong").status_code == 403
        first = client.get(page.address, follow_redirects=False)
        assert (first.status_code, first.headers["location"]) == (303, "/")
        cookie = first.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert "Row 1 of 20" in client.get("/").text

    @pytest.mark.parametrize("path", ["/", "/static/review.js", "/text/0/0", "/nothing"])
    def test_nothing_is_there_without_it(self, page: Served, path: str) -> None:
        assert page.client(let_in=False).get(path).status_code == 403

    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:PORT", "127.0.0.1", "127.0.0.1:1", "[::1]:PORT", ""]
    )
    def test_another_name_that_points_here_is_refused(self, page: Served, host: str) -> None:
        host = host.replace("PORT", str(page.port))
        client = page.client()
        assert client.get("/", headers={"Host": host}).status_code == 421
        assert client.get(page.address, headers={"Host": host}).status_code == 421

    @pytest.mark.parametrize("origin", ["http://evil.example", "null", "", "https://127.0.0.1"])
    def test_a_form_of_another_page_is_refused(
        self, page: Served, output: Storage, origin: str
    ) -> None:
        client = page.client()
        form = {"row": "0", "value": "1"}
        assert client.post("/answer", data=form, headers={"Origin": origin}).status_code == 403
        del client.headers["Origin"]
        assert client.post("/answer", data=form).status_code == 403
        assert gold_of(output, "label") == []

    def test_every_answer_allows_the_pages_own_files_alone(self, page: Served) -> None:
        client = page.client()
        for path in ("/", "/static/review.js", "/nothing", "/text/0/0"):
            headers = client.get(path).headers
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"

    def test_the_page_needs_no_network_and_no_script_of_its_own(self, page: Served) -> None:
        text = page.client().get("/").text
        loaded = re.findall(r'(?:src|href)="([^"]+)"', text)
        assert loaded
        assert all(one.startswith("/static/") for one in loaded)
        assert not re.search(r"<script(?![^>]*src=)|<style|style=|\son\w+=", text)

    def test_files_outside_of_its_folder_are_not_served(self, page: Served) -> None:
        for path in ("/static/../page.py", "/static/%2e%2e/page.py", "/static/..%2fpage.py"):
            assert page.client().get(path).status_code == 404

    def test_it_listens_on_loopback_alone(self) -> None:
        from pipeline.service.review.serve import _listen

        with _listen(None) as listening:
            assert listening.getsockname()[0] == "127.0.0.1"


class TestAnswers:
    def test_an_answer_is_saved_before_the_next_row_is_shown(
        self, page: Served, output: Storage
    ) -> None:
        client = page.client()
        told = client.post("/answer", data={"row": "0", "value": "1"}, headers=HX)
        assert "Row 2 of 20" in told.text
        assert "<html" not in told.text
        assert [g.value for g in gold_of(output, "label")] == ["good"]

    def test_it_works_without_scripts_too(self, page: Served) -> None:
        client = page.client()
        told = client.post("/answer", data={"row": "0", "value": "unsure"})
        assert "<html" in told.text
        assert "Row 2 of 20" in told.text
        assert "Row 1 of 20" in client.post("/undo").text

    @pytest.mark.parametrize(
        "form",
        [{}, {"row": "0"}, {"row": "x", "value": "1"}, {"row": "0", "value": "2"},
         {"row": "20", "value": "1"}, {"row": "-1", "value": "1"}, {"row": "²", "value": "1"},
         {"row": "0", "value": "good"}, {"row": "0", "value": "x" * 9999},
         {"row": "9" * 4000, "value": "1"}],
    )  # fmt: skip
    def test_what_no_page_of_ours_sends_is_refused(
        self, page: Served, output: Storage, form: dict[str, str]
    ) -> None:
        assert page.client().post("/answer", data=form, headers=HX).status_code == 400
        assert output.read("_rackmill/reviews/anna.jsonl") is None

    def test_an_answer_that_cannot_be_saved_is_said(self, page: Served, tmp_path: Path) -> None:
        (tmp_path / "out/_rackmill/reviews/anna.jsonl").mkdir()
        told = page.client().post("/answer", data={"row": "0", "value": "1"}, headers=HX)
        assert told.status_code == 507
        assert "Not saved" in told.text
        assert "anna.jsonl" in told.text

    def test_the_models_answer_is_not_in_the_page_until_it_is_asked_for(self, page: Served) -> None:
        client = page.client()
        assert 'id="model"' not in client.get("/").text
        assert 'id="model"' in client.post("/show", data={"shown": "yes"}, headers=HX).text
        assert 'id="model"' not in client.post("/show", data={"shown": "no"}, headers=HX).text

    def test_when_all_are_answered_the_next_command_is_said(self, page: Served) -> None:
        client = page.client()
        for row in range(20):
            told = client.post("/answer", data={"row": str(row), "value": "1"}, headers=HX).text
        assert "All 20 rows are answered" in told
        assert "rackmill trust " in told
        assert "--reviewer anna --rows 60" in told  # there are no more

    def test_what_a_second_reviewer_says_is_compared(
        self, serve: Callable[..., Served], output: Storage, page: Served
    ) -> None:
        other = serve(output, "ben").client()
        client = page.client()
        for row in range(4):
            other.post("/answer", data={"row": str(row), "value": str(row % 2)})
            told = client.post("/answer", data={"row": str(row), "value": str(row % 2)}, headers=HX)
        assert "anna 4, ben 4" in told.text
        assert "1.00 on 4 rows" in told.text


class _Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)


def texts_of(client: httpx.Client) -> str:
    return client.get("/").text


class TestHostileRows:
    def test_a_rows_text_a_choice_and_a_column_are_text(
        self, serve: Callable[..., Served], tmp_path: Path
    ) -> None:
        plain = serve(labelled(tmp_path / "plain", 3, texts=["a"] * 3)).client()
        texts = [EVIL] * 3
        choices = ("<b>bold</b>", "\u202egood")
        output = labelled(
            tmp_path / "evil", 3, texts=texts, choices=choices, instructions=f"Is it {EVIL}?"
        )
        evil = serve(output).client()
        assert _Tags(texts_of(evil)).tags == _Tags(texts_of(plain)).tags
        shown = unescape(texts_of(evil))
        assert "<script>alert(1)</script>" in shown
        assert "{{7*7}}" in shown
        assert "\\x00\\x1b[2J\\u202eevil" in shown
        for raw in ("\x00", "\x1b", "\u202e"):
            assert raw not in texts_of(evil)
        evil.post("/show", data={"shown": "yes"})
        evil.post("/answer", data={"row": "0", "value": "1"})
        assert "\u202e" not in texts_of(evil)
        assert [g.value for g in gold_of(output, "label")] == ["\u202egood"]

    def test_a_text_of_a_megabyte_is_cut_and_whole_as_plain_text(
        self, serve: Callable[..., Served], tmp_path: Path
    ) -> None:
        long = "<b>" + "x" * 1_000_000
        client = serve(labelled(tmp_path, 3, texts=[long] * 3)).client()
        assert len(texts_of(client)) < 50_000
        assert "980,003 more characters" in texts_of(client)
        whole = client.get("/text/0/0")
        assert whole.text == long
        assert whole.headers["content-type"] == "text/plain; charset=utf-8"
        assert client.get("/text/0/1").status_code == 404
        assert client.get("/text/99/0").status_code == 404
