"""Notices by webhook and command: signed, tried again while that may help, never for ever."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pydantic import SecretStr

from pipeline.service.scheduler.notify import post, run_command, signature

CONTENT = {"id": "nightly/1", "rows": 7}
SECRET = SecretStr("s3cret")


def test_the_body_is_signed_with_the_secret(hook) -> None:
    assert post(hook.address, CONTENT, SECRET) is None
    [(sign, body)] = hook.taken
    assert sign == signature(body, SECRET)
    assert json.loads(body) == CONTENT


def test_without_a_secret_nothing_is_signed(hook) -> None:
    post(hook.address, CONTENT, None)
    assert hook.taken[0][0] is None


def test_what_may_pass_is_tried_again(hook) -> None:
    hook.codes = [503, 204]
    assert post(hook.address, CONTENT, SECRET) is None
    assert len(hook.taken) == 2


def test_a_refusal_is_final(hook) -> None:
    hook.codes = [404]
    assert post(hook.address, CONTENT, SECRET) == "404 Not Found"
    assert len(hook.taken) == 1


def test_patience_ends(hook) -> None:
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
