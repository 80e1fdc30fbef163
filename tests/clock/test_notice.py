"""Notices by webhook and command: signed, tried again while that may help, never for ever."""

from __future__ import annotations

import http.server
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.clock.notice import SIGNATURE, post, run_command, signature

CONTENT = {"id": "nightly/1", "rows": 7}
SECRET = SecretStr("s3cret")


class Hook:
    """A web server that answers with these codes in turn, the last one for ever."""

    def __init__(self) -> None:
        self.codes = [204]
        self.taken: list[tuple[str | None, bytes]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.taken.append((self.headers.get(SIGNATURE), body))
                codes = outer.codes
                self.send_response(codes.pop(0) if len(codes) > 1 else codes[0])
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/hook"


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def test_the_body_is_signed_with_the_secret(hook: Hook) -> None:
    assert post(hook.address, CONTENT, SECRET) is None
    [(sign, body)] = hook.taken
    assert sign == signature(body, SECRET)
    assert json.loads(body) == CONTENT


def test_without_a_secret_nothing_is_signed(hook: Hook) -> None:
    post(hook.address, CONTENT, None)
    assert hook.taken[0][0] is None


def test_what_may_pass_is_tried_again(hook: Hook) -> None:
    hook.codes = [503, 204]
    assert post(hook.address, CONTENT, SECRET) is None
    assert len(hook.taken) == 2


def test_a_refusal_is_final(hook: Hook) -> None:
    hook.codes = [404]
    assert post(hook.address, CONTENT, SECRET) == "404 Not Found"
    assert len(hook.taken) == 1


def test_patience_ends(hook: Hook) -> None:
    hook.codes = [503]
    assert post(hook.address, CONTENT, SECRET, patience_seconds=0) == "503 Service Unavailable"


def test_an_address_where_nobody_answers_is_said() -> None:
    why = post("http://127.0.0.1:9/hook", CONTENT, SECRET, patience_seconds=0)
    assert why is not None
    assert "refused" in why


def test_a_command_gets_the_notice_on_its_stdin(tmp_path: Path) -> None:
    script = tmp_path / "take.py"
    script.write_text(f"import sys; open({str(tmp_path / 'told')!r}, 'w').write(sys.stdin.read())")
    assert run_command(f"{sys.executable} {script}", CONTENT) is None
    assert json.loads((tmp_path / "told").read_text()) == CONTENT


def test_a_command_that_fails_is_told_of(tmp_path: Path) -> None:
    script = tmp_path / "fail.py"
    script.write_text("import sys; sys.exit('no mail today')")
    assert run_command(f"{sys.executable} {script}", CONTENT) == "exit code 1: no mail today"
    assert "No such file" in (run_command("/no/such/program", CONTENT) or "")
