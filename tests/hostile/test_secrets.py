"""Secrets are in nothing that is printed or written."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.job.address import check_address
from pipeline.job.secret import secret
from pipeline.printable import json_safe, masked_address, printable, shown, without_secrets
from tests.hostile.inputs import Hostile

_TOKEN = "hf_sosecretthatnobodyknows"


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        ("s3://key:secret@bucket/x", "s3://key:***@bucket/x"),
        ("s3://AKIA:ab/cd+ef@bucket/x", "s3://AKIA:***@bucket/x"),
        ("https://token@host/x", "https://***@host/x"),
        ("git+HTTPS://token@host/x", "git+HTTPS://***@host/x"),
        ("x=1https://token@host/x", "x=1https://***@host/x"),
        ("https://host/x?X-Amz-Signature=abc&y=1", "https://host/x?X-Amz-Signature=***&y=1"),
        ("az://box/x?sv=1&sig=abc", "az://box/x?sv=1&sig=***"),
        ("simplecache::ftp://me:pw@host/x", "simplecache::ftp://me:***@host/x"),
    ],
)
def test_secrets_in_addresses_are_masked_and_refused(address: str, masked: str) -> None:
    assert masked_address(address) == masked
    with pytest.raises(ValueError, match="environment"):
        check_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "runs/out", "s3://bucket/a b/c", "sftp://me@host/x", "http://host:8000/data@v1/x.parquet",
        "hf://google/gemma@main:x.gguf", "memory://x", "C:\\data", "/a/b@c:d/e",
        "s3://b/k?versionId=1",
    ],
)  # fmt: skip
def test_addresses_without_secrets_are_left_alone(address: str) -> None:
    assert check_address(address) == address


def test_values_of_secret_variables_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", _TOKEN)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/home/me/token-file")
    assert without_secrets(f"GET /?t={_TOKEN} failed") == "GET /?t=*** failed"
    assert without_secrets("/home/me/token-file") == "/home/me/token-file"


def test_a_secret_shows_stars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", _TOKEN)
    known = secret("HF_TOKEN")
    assert known is not None
    assert _TOKEN not in f"{known} {known!r}"
    assert known.get_secret_value() == _TOKEN


def test_codes_for_the_terminal_are_shown_as_text() -> None:
    assert printable("a\x1b[2Jb\r\n\tc\x9b\u202e") == "a\\x1b[2Jb\\x0d\n\tc\\x9b\\u202e"
    assert json_safe("\u009b") == "\\u009b"
    assert shown("\ud800") == "\\ud800"


def test_a_job_and_its_output_hold_no_secret(
    face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment's secrets are not in the manifest, the records, the report or the rows."""
    names = ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN")
    ended = face(Hostile(code=0, environment=dict.fromkeys(names, _TOKEN)))
    for path in [p for p in (tmp_path / "out").rglob("*") if p.is_file()]:
        assert _TOKEN.encode() not in path.read_bytes(), path
    assert _TOKEN not in ended.out + ended.err


def test_a_crash_report_holds_no_secret(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", _TOKEN)

    def fail(*_: object) -> None:
        raise RuntimeError(f"Bearer {_TOKEN} \x1b[2J")

    monkeypatch.setattr("pipeline.driver.plan.plan.discover", fail)
    Hostile().write(tmp_path)
    ended = command("run", "job.yaml")
    [report] = tmp_path.glob("rackmill-crash-*.txt")
    assert ended.code == 1
    assert _TOKEN not in ended.err + report.read_text()
    assert "\x1b" not in ended.err
