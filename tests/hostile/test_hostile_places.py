"""Output folders, command lines and environments that are not what they should be."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.hostile.inputs import Hostile, file, folder, link


def _output(path: str, *says: str, code: int = 2) -> Hostile:
    line = f"output: {{path: {json.dumps(path)}}}"
    return Hostile(says, code=code, lines={"output": line})


def _manifest(content: str | bytes) -> Hostile:
    return Hostile(("out",), prepare=file("out/_rackmill/manifest.json", content))


def _arguments(*arguments: str, says: tuple[str, ...] = (), code: int = 2) -> Hostile:
    return Hostile(says or (arguments[0],), code=code, arguments=arguments)


_OUTPUTS = {
    "an output that is empty": _output("", "job.yaml, line 5", "empty"),
    "an output that is the root": _output("/", "already holds files"),
    "an output with a line break": _output("out\nput", "job.yaml, line 5", "control character"),
    "an output of a name too long": _output("o" * 300, "job.yaml, line 5"),
    "an output that is a file": Hostile(("output.path",), prepare=file("out", "mine")),
    "an output below a file": Hostile(
        ("output.path",), lines={"output": "output: {path: mine/out}"}, prepare=file("mine", "mine")
    ),
    "an output that is a link to itself": Hostile(("output.path",), prepare=link("out", "out")),
    "an output that is a device": Hostile(("output.path",), prepare=link("out", "/dev/null")),
    "an output on a protocol that nobody knows": _output("evil://out", "evil"),
    "an output with a password": _output(
        "ftp://me:secret@host/out", "job.yaml, line 5", "password"
    ),
    "an output on S3 without credentials": Hostile(
        ("s3://bucket/out", "credentials"),
        lines={"output": "output: {path: 's3://bucket/out'}"},
        environment={"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_CONFIG_FILE": "/none"},
    ),
    "a folder with somebody's files": Hostile(
        ("already holds files",), prepare=file("out/thesis.txt", "mine")
    ),
    "a manifest that is no JSON": _manifest(b"\x80\x04cos\nsystem\n"),
    "a manifest that is a list": _manifest("[1, 2]"),
    "a manifest that is a number": _manifest("7"),
    "a manifest whose parts are none": _manifest('{"fingerprint": "x", "parts": [1]}'),
    "a manifest a hundred thousand deep": _manifest("[" * 100_000 + "]" * 100_000),
    "a manifest that is a folder": Hostile(("out",), prepare=folder("out/_rackmill/manifest.json")),
}

_COMMANDS = {
    "a setting that runs code": _arguments(
        "--set", "name=!!python/object/apply:os.system ['touch hacked']", says=("name",)
    ),
    "a setting of aliases of aliases": _arguments(
        "--set", f"examples=[&a {['x'] * 9}, &b {['*a'] * 9}]".replace("'", ""), says=("examples",)
    ),
    "a setting a hundred thousand deep": _arguments(
        "--set", "name=" + "[" * 100_000, says=("name",)
    ),
    "a setting of a key a thousand deep": _arguments(
        "--set", "engine" + ".a" * 1000 + "=1", says=("engine",)
    ),
    "a setting that is not UTF-8": _arguments("--set", "name=\udcff", says=("UTF-8",)),
    "a setting that clears the terminal": _arguments("--set", "name=\x1b[2J", says=("name",)),
    "a setting with a password": _arguments(
        "--set", "input.path=s3://key:hunter22@bucket/x", says=("--set input.path", "password")
    ),
    "the model's own code by a setting": _arguments(
        "--set", "engine.trust_remote_code=true", says=("unknown key", "trust_remote_code")
    ),
    "more rows than can be counted": _arguments("--rows", "9" * 5000),
    "more workers than there are": _arguments("--workers", "9" * 30, says=("resources.workers",)),
    "a Ray on the network without its token": Hostile(
        ("198.51.100.7:6379", "token"),
        arguments=("--address", "198.51.100.7:6379"),
        environment={"HOME": "/none"},
    ),
    "cards without number": Hostile(
        ("gpus",),
        command=("plan", "job.yaml"),
        arguments=("--gpus", "99999999999999999999x rtx3090"),
    ),
    "cards that are a program": Hostile(
        command=("plan", "job.yaml"), arguments=("--gpus", "$(touch hacked); \x1b[2J")
    ),
    "a price that is no number": Hostile(
        command=("plan", "job.yaml"), arguments=("--price-kwh", "much")
    ),
    "a job file that is an option": Hostile(("--no",), command=("run", "--no-such-option")),
    "a trace that is a device": Hostile(
        ("trace",),
        command=("simulate", "--trace", "/dev/zero", "--model", "gemma-3-1b", "--gpu", "rtx3090"),
    ),
    "a trace of lies": Hostile(
        ("trace",),
        command=("simulate", "--trace", "lies.parquet", "--model", "gemma-3-1b", "--gpu", "cpu"),
        prepare=file("lies.parquet", b"PAR1" + os.urandom(100) + b"PAR1"),
    ),
    "cards of a simulation without number": Hostile(
        ("gpu",),
        command=("simulate", "--trace", "rows/a.parquet", "--model", "gemma-3-1b", "--gpu",
                 "rtx3090:99999999999999999999"),
    ),
}  # fmt: skip

_ENVIRONMENTS = {
    "a store that is a file": Hostile(
        code=2,
        lines={"model": "model: gemma-3-1b"},
        environment={"RACKMILL_HOME": "/dev/null", "HF_HUB_OFFLINE": "1"},
    ),
    "a hub that is no address": Hostile(
        ("model",),
        code=1,
        lines={"model": "model: hf://google/gemma"},
        environment={"HF_ENDPOINT": "\x1b[2Jnot an address"},
    ),
    "a hub with a password in its address": Hostile(
        ("127.0.0.1:1",),
        code=1,
        lines={"model": "model: hf://google/gemma"},
        environment={"HF_ENDPOINT": "http://me:hunter22@127.0.0.1:1"},
    ),
    "a profile that is a device": Hostile(code=0, environment={"RACKMILL_PROFILE": "/dev/null"}),
    "a profile that is a folder": Hostile(code=0, environment={"RACKMILL_PROFILE": "."}),
}

_CASES = _OUTPUTS | _COMMANDS | _ENVIRONMENTS


@pytest.mark.parametrize("name", _CASES)
def test_a_hostile_place_is_refused_or_harmless(name: str, face) -> None:
    ended = face(_CASES[name])
    assert "hunter22" not in ended.err + ended.out


@pytest.mark.parametrize(
    "file_name", ["../../../victim", "/victim", "00000-000000000000.parquet/x"]
)
def test_a_commit_record_cannot_name_files_elsewhere(
    file_name: str, command, tmp_path: Path
) -> None:
    """Who may write into the output folder cannot have files outside of it moved or deleted."""
    Hostile().write(tmp_path)
    assert command("run", "job.yaml", "--rows", "2").code == 0
    [record, *_] = sorted((tmp_path / "out/_rackmill/commits").glob("*.json"))
    content = json.loads(record.read_text())
    if "cut" in content:
        record = sorted((tmp_path / "out/_rackmill/commits").glob("*.json"))[-1]
        content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"file": file_name}))
    (tmp_path / "victim").write_text("mine")
    for arguments in (
        ("run", "job.yaml"), ("verify", "out"), ("clean", "out"), ("run", "job.yaml", "--fresh"),
    ):  # fmt: skip
        ended = command(*arguments)
        assert "Traceback" not in ended.err
        assert not list(tmp_path.glob("rackmill-crash-*")), ended.err
        assert (tmp_path / "victim").read_text() == "mine"
