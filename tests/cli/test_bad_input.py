"""Bad input is refused with exit code 2, before Ray or an engine is touched, with a message that
names the place and the fix."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

# the order fixes the line numbers: name is line 1, model 2, input 3, prompt 4, output 5, label 6
_LINES = {
    "name": "name: label",
    "model": "model: gemma-3-270m",
    "input": "input: {path: rows/*.parquet}",
    "prompt": 'prompt: "Tweet: {text}\\nSentiment:"',
    "output": "output: {path: out, keep: [id, text]}",
    "label": "label: {choices: [negative, positive], gold: sentiment}",
    "engine": "engine: {kind: simulated}",
}


def _nothing(folder: Path) -> None: ...


def _text_file(name: str, content: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    return prepare


def _truncated(folder: Path) -> None:
    whole = (folder / "rows/shard-0.parquet").read_bytes()
    (folder / "rows/shard-1.parquet").write_bytes(whole[: len(whole) // 2])


def _with_another_type(folder: Path) -> None:
    table = pq.read_table(folder / "rows/shard-0.parquet")
    table = table.set_column(0, "id", pa.array([str(i) for i in range(len(table))]))
    pq.write_table(table, folder / "rows/shard-1.parquet")


def _with_a_column_twice(folder: Path) -> None:
    table = pq.read_table(folder / "rows/shard-0.parquet")
    table = table.append_column("text", table["text"])
    pq.write_table(table, folder / "rows/shard-0.parquet")


@dataclass(frozen=True)
class Case:
    """Lines of the job file put in place of the usual ones, and what the message must say."""

    says: tuple[str, ...]
    lines: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[Path], None] = _nothing
    arguments: tuple[str, ...] = ()

    def write(self, folder: Path) -> Path:
        path = folder / "job.yaml"
        path.write_text("".join(f"{line}\n" for line in (_LINES | self.lines).values() if line))
        self.prepare(folder)
        return path


_INPUT_CASES = {
    "no such path": Case(
        ("job.yaml, line 3", "rows/shrad-0.parquet", "did you mean shard-0.parquet?"),
        {"input": "input: {path: rows/shrad-0.parquet}"},
    ),
    "no file matched": Case(
        ("job.yaml, line 3", "no file matches", "rows/*.pq"),
        {"input": "input: {path: rows/*.pq}"},
    ),
    "no paths at all": Case(
        ("job.yaml, line 3", "input.path"),
        {"input": "input: {path: []}"},
    ),
    "folder without data": Case(
        ("job.yaml, line 3", "no Parquet, JSONL or CSV file in empty"),
        {"input": "input: {path: empty}"},
        lambda folder: (folder / "empty").mkdir(),
    ),
    "not Parquet": Case(
        ("rows/shard-1.parquet", "not a readable Parquet file", "write it again"),
        prepare=_text_file("rows/shard-1.parquet", "id,text\n1,not Parquet at all\n"),
    ),
    "no bytes": Case(
        ("rows/shard-1.parquet", "not a readable Parquet file", "write it again"),
        {"input": "input: {path: [rows/shard-0.parquet, rows/shard-1.parquet]}"},
        prepare=_text_file("rows/shard-1.parquet", ""),
    ),
    "truncated Parquet": Case(
        ("rows/shard-1.parquet", "not a readable Parquet file", "cut off"),
        {"input": "input: {path: [rows/shard-0.parquet, rows/shard-1.parquet]}"},
        prepare=_truncated,
    ),
    "a column has two types": Case(
        ("disagree", "'id' is int64 in rows/shard-0.parquet, and string in rows/shard-1.parquet"),
        prepare=_with_another_type,
    ),
    "two formats": Case(
        ("several formats: csv (", "narrow the pattern"),
        {"input": "input: {path: rows/*}"},
        _text_file("rows/more.csv", "id,text,sentiment\n1,a,negative\n"),
    ),
    "unknown format": Case(
        ("rows.data", "does not say its format", "set input.format"),
        {"input": "input: {path: rows.data}"},
        _text_file("rows.data", "1"),
    ),
    "JSONL without an object": Case(
        ("rows.jsonl", "no line of it is a JSON object"),
        {"input": "input: {path: rows.jsonl}"},
        _text_file("rows.jsonl", '[1]\n"two"\n{three\n'),
    ),
    "CSV with a line too long": Case(
        ("rows.csv", "fix the line"),
        {"input": "input: {path: rows.csv}"},
        _text_file("rows.csv", "id,text,sentiment\n1,a,negative\n2,b,positive,what\n"),
    ),
    "Parquet with a column twice": Case(
        ("rows/shard-0.parquet", "'text'", "twice"),
        prepare=_with_a_column_twice,
    ),
    "CSV with a column twice": Case(
        ("rows.csv", "'text'", "twice"),
        {"input": "input: {path: rows.csv}"},
        _text_file("rows.csv", "id,text,sentiment,text\n1,a,positive,b\n"),
    ),
    "kept column is missing": Case(
        ("job.yaml, line 5", "output.keep names 'txt'", "columns: id, text", "did you mean text?"),
        {"output": "output: {path: out, keep: [id, txt]}"},
    ),
    "a column is kept twice": Case(
        ("job.yaml, line 5", "output.keep", "'text'", "twice"),
        {"output": "output: {path: out, keep: [text, text]}"},
    ),
    "gold column is missing": Case(
        ("job.yaml, line 6", "label.gold names 'sentiments'", "did you mean sentiment?"),
        {"label": "label: {choices: [negative, positive], gold: sentiments}"},
    ),
    "template field is missing": Case(
        ("job.yaml, line 4", "prompt uses {txet}", "columns: id, text", "did you mean {text}?"),
        {"prompt": 'prompt: "Tweet: {txet}"'},
    ),
    "Jinja field is missing": Case(
        ("job.yaml, line 4", "{txet}", "did you mean {text}?"),
        {"prompt": 'prompt: {jinja: "Tweet: {{ txet }}"}'},
    ),
    "prompt column is missing": Case(
        ("job.yaml, line 4", "{txet}", "did you mean {text}?"),
        {"prompt": "prompt: {column: txet}"},
    ),
    "message field is missing": Case(
        ("job.yaml, line 4", "messages uses {txet}", "did you mean {text}?"),
        {"prompt": 'messages: [{role: user, content: "{txet}"}]'},
    ),
    "unknown model": Case(
        ("job.yaml, line 2", "'gema-3-270m'", "did you mean gemma-3-270m?"),
        {"model": "model: gema-3-270m"},
    ),
    "no such model folder": Case(
        ("job.yaml, line 2", "no such folder: models/mine"),
        {"model": "model: models/mine"},
    ),
    "no such model file": Case(
        ("job.yaml, line 2", "no such file: mine.gguf"),
        {"model": "model: mine.gguf"},
    ),
    "messages for a base model": Case(
        ("job.yaml, line 4", "chat template", "gemma-3-270m", "chat_template: gemma3"),
        {"prompt": 'messages: [{role: user, content: "{text}"}]'},
    ),
}

_JOB_FILE_CASES = {
    "unknown key": Case(
        ("job.yaml, line 4", "unknown key 'promt'", "did you mean 'prompt'?"),
        {"prompt": 'promt: "Tweet: {text}"'},
    ),
    "unknown inner key": Case(
        ("job.yaml, line 7", "'engine.max_modellen'", "did you mean 'max_model_len'?"),
        {"engine": "engine: {max_modellen: 64}"},
    ),
    "key of no likeness": Case(
        ("job.yaml, line 7", "'resources.zzz'", "known here: workers"),
        {"engine": "resources: {zzz: 1}"},
    ),
    "key given twice": Case(
        ("job.yaml, line 7", "'model' is given twice"),
        {"engine": "model: gemma-3-1b"},
    ),
    "key is missing": Case(("job.yaml", "'output' is missing"), {"output": ""}),
    "neither prompt nor messages": Case(("job.yaml", "either prompt or messages"), {"prompt": ""}),
    "both prompt and messages": Case(
        ("job.yaml", "either prompt or messages"),
        {"engine": "messages: {column: text}"},
    ),
    "a number that is none": Case(
        ("job.yaml, line 7", "sampling.temperature", "number"),
        {"engine": "sampling: {temperature: hot}"},
    ),
    "a seed beyond 64 bits": Case(
        ("job.yaml, line 7", "sampling.seed"),
        {"engine": f"sampling: {{seed: {1 << 70}}}"},
    ),
    "a temperature that vLLM refuses": Case(
        ("job.yaml, line 7", "sampling.temperature"),
        {"engine": "sampling: {temperature: 3}"},
    ),
    "an empty stop string": Case(
        ("job.yaml, line 7", "sampling.stop"),
        {"engine": 'sampling: {stop: [""]}'},
    ),
    "a brace that stands alone": Case(
        ("job.yaml, line 4", "prompt", "write {{"),
        {"prompt": 'prompt: "Tweet: {text"'},
    ),
    "broken Jinja": Case(
        ("job.yaml, line 4", "Jinja"),
        {"prompt": 'prompt: {jinja: "{% if %}"}'},
    ),
    "one choice": Case(
        ("job.yaml, line 6", "label.choices", "at least two"),
        {"label": "label: {choices: [negative]}"},
    ),
    "the same choice twice": Case(
        ("job.yaml, line 6", "label", "twice"),
        {"label": "label: {choices: [negative, negative]}"},
    ),
    "a choice that is null": Case(
        ("job.yaml, line 6", "label.choices", "quote"),
        {"label": "label: {choices: [null, no]}"},
    ),
    "a word in a schema that YAML reads as true": Case(
        ("job.yaml, line 6", "label.json_schema.properties.a.enum.0", 'quote it, "yes"'),
        {"label": "label: {json_schema: {type: object, properties: {a: {enum: [yes, x]}}}}"},
    ),
    "two shapes of answer": Case(
        ("job.yaml, line 6", "exactly one of choices, json_schema and regex"),
        {"label": "label: {choices: [a, b], regex: a|b}"},
    ),
    "not a JSON schema": Case(
        ("job.yaml, line 6", "label.json_schema", "not a JSON schema"),
        {"label": "label: {json_schema: {type: objekt}}"},
    ),
    "a JSON schema without columns": Case(
        ("job.yaml, line 6", "label.json_schema", "properties"),
        {"label": "label: {json_schema: {type: array, items: {type: string}}}"},
    ),
    "not a regular expression": Case(
        ("job.yaml, line 6", "label.regex", "not a regular expression"),
        {"label": 'label: {regex: "(a"}'},
    ),
    "an example without the prompt's field": Case(
        ("job.yaml", "example 1", "'text'"),
        {"engine": "examples: [{answer: negative}]"},
    ),
    "an example without an answer": Case(
        ("job.yaml", "example 1", "'answer'"),
        {"engine": "examples: [{text: fine}]"},
    ),
    "not YAML": Case(("job.yaml, line 7", "not YAML"), {"engine": "engine: ]"}),
    "not a mapping": Case(
        ("job.yaml", "key: value"),
        dict.fromkeys(_LINES, "- item"),
    ),
}

_ARGUMENT_CASES = {
    "--set without a value": Case(
        ("--set engine.kind", "key.path=value"), arguments=("--set", "engine.kind")
    ),
    "--set of an unknown key": Case(
        ("--set engine.knid", "unknown key", "did you mean 'kind'?"),
        arguments=("--set", "engine.knid=simulated"),
    ),
    "--set to a wrong value": Case(
        ("--set engine.max_model_len", "number"),
        arguments=("--set", "engine.max_model_len=big"),
    ),
    "--set of a missing column": Case(
        ("--set prompt", "{txet}", "did you mean {text}?"),
        arguments=("--set", 'prompt="Tweet: {txet}"'),
    ),
    "--set of a path that is not there": Case(
        ("--set input.path", "nowhere.parquet"), arguments=("--set", "input.path=nowhere.parquet")
    ),
    "unknown option": Case(("--row", "--rows"), arguments=("--row", "3")),
    "negative --rows": Case(("--rows",), arguments=("--rows", "-1")),
    "--rows that is no number": Case(("--rows",), arguments=("--rows", "many")),
    "a second job file": Case(("other.yaml",), arguments=("other.yaml",)),
}

_CASES = _INPUT_CASES | _JOB_FILE_CASES | _ARGUMENT_CASES


@pytest.fixture(autouse=True)
def _input(tmp_path: Path, write_shards) -> None:
    write_shards(tmp_path / "rows", 40)


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize("name", _CASES)
def test_refused_with_the_place_and_the_mend(name: str, command: str, ask, tmp_path: Path) -> None:
    """Exit code 2, an empty stdout, no traceback, and a message that says where and what to do."""
    case = _CASES[name]
    path = case.write(tmp_path)
    result = ask(command, path.name, *case.arguments)
    assert result.code == 2, result.err
    assert result.out == ""
    assert re.sub(r"^  input   .*\n", "", result.err).startswith("error: ")  # where it took a while
    assert "Traceback" not in result.err
    for words in case.says:
        assert words in result.err


@pytest.mark.parametrize("name", _INPUT_CASES)
def test_a_refused_job_leaves_no_output_folder(name: str, ask, tmp_path: Path) -> None:
    case = _CASES[name]
    ask("run", case.write(tmp_path).name)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "nowhere.yaml"), "nowhere.yaml: no such job file"),
        (("run", "rows"), "rows cannot be read"),
        (("run",), "JOB.yaml"),
        (("runn", "job.yaml"), "runn"),
        (("doctor", "--jsn"), "--json"),
    ],
)
def test_a_command_line_that_is_wrong(arguments: tuple[str, ...], says: str, ask) -> None:
    result = ask(*arguments)
    assert (result.code, result.out) == (2, "")
    assert re.sub(r"^  input   .*\n", "", result.err).startswith("error: ")  # where it took a while
    assert says in result.err


def test_workers_are_at_least_one(ask, tmp_path: Path) -> None:
    result = ask("run", Case(()).write(tmp_path).name, "--workers", "0")
    assert result.code == 2
    assert "--workers" in result.err


def test_a_refusal_of_json_is_one_object_too(ask, tmp_path: Path) -> None:
    result = ask("run", _CASES["no such path"].write(tmp_path).name, "--json")
    assert result.code == 2
    assert json.loads(result.out) == {
        "error": "job.yaml, line 3: input.path: no such file or folder: rows/shrad-0.parquet",
        "hints": ["did you mean shard-0.parquet?"],
        "exit_code": 2,
    }


# of the job file alone, and after the input was looked into; where no file is, is between them
_NO_PATH = pytest.param("no such path", marks=pytest.mark.long)


@pytest.mark.parametrize("name", [_NO_PATH, "template field is missing", "unknown key"])
def test_the_installed_command_refuses_without_ray(name: str, launcher, tmp_path: Path) -> None:
    """The same from outside: exit code and streams of the real command, and no Ray with it."""
    case = _CASES[name]
    started = launcher.start("run", case.write(tmp_path).name, cwd=tmp_path)
    seen: set[str] = set()
    while started.process.poll() is None:
        seen |= {p.name() for p in started.processes() if p.pid != started.process.pid}
        time.sleep(0.02)  # a Ray takes seconds to start
    result = started.wait()
    assert (result.code, result.out) == (2, "")
    assert "Traceback" not in result.err
    assert case.says[0] in result.err
    assert not seen


def test_a_crash_leaves_no_traceback_on_the_screen(
    ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake of rackmill's own: exit code 1, one line, and the traceback in a file."""
    monkeypatch.setattr("pipeline.driver.plan.plan.discover", lambda *_: json.loads("{"))
    result = ask("run", Case(()).write(tmp_path).name)
    assert (result.code, result.out) == (1, "")
    assert "Traceback" not in result.err
    assert "defect" in result.err
    (report,) = tmp_path.glob("rackmill-crash-*.txt")
    assert "Traceback" in report.read_text()
