"""Whatever comes, it ends soon, takes no memory to speak of, and raises nothing but rackmill's own.

Job files, the heads of GGUF files and lines of JSON are made from healthy ones by mutation, and
from nothing. A few hundred examples here, thousands with the mark ``long``.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import RackmillError, RowError
from pipeline.input.formats.jsonl.kind import JsonlReader, scan
from pipeline.input.plain import plain_rows
from pipeline.job.file.load import load_job
from pipeline.job.job import Input
from pipeline.job.sampling import Sampling
from pipeline.job.template.render import Template
from pipeline.model.convert.gguf_file import GgufFile
from pipeline.model.convert.tokenizer_files import write_tokenizer as write_gguf_tokenizer
from pipeline.model.tokenizer import Tokenizer
from pipeline.prompt.builder import PromptBuilder
from tests.hostile.conftest import peak_memory, watched
from tests.model.tiny_gguf import write as write_gguf
from tests.support.samples import job, write_tokenizer

_SECONDS = 60  # for an example that takes milliseconds, on a machine with other work
_MOST_MEMORY = 512 << 20
_FEW, _MANY = 100, 5000


def _examples(number: int) -> settings:
    return settings(
        derandomize=True,
        deadline=None,  # the watch ends what hangs, and a busy machine is no failure
        max_examples=number,
        suppress_health_check=list(HealthCheck),
        database=None,
    )


def _survives(call: Callable[[], object]) -> None:
    """``call`` returns, or raises an error of ours, soon."""
    memory = peak_memory()
    with watched(_SECONDS), suppress(RackmillError, RowError):
        call()
    assert peak_memory() - memory < _MOST_MEMORY


def _mutated(content: bytes, dice: random.Random) -> bytes:
    """A few bytes changed, moved, doubled or taken out, as damage and malice do it."""
    changed = bytearray(content)
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(changed) + 1) if changed else 0
        length = dice.choice((1, 2, 4, 8, 16))
        kind = dice.randrange(5)
        if kind == 0:
            changed[at : at + length] = dice.randbytes(length)
        elif kind == 1:
            changed[at : at + length] = b""
        elif kind == 2:
            changed[at:at] = changed[at : at + 8 * length] * dice.choice((1, 2, 50))
        elif kind == 3:
            most = dice.choice((2**64 - 1, 2**63, 2**32, 2**31 - 1, 0, 1))
            changed[at : at + 8] = struct.pack("<Q", most)
        else:
            changed[at:at] = dice.choice(_TOKENS)
    return bytes(changed[: 4 * len(content) + 64])


_TOKENS = [
    b"[", b"]", b"{", b"}", b'"', b"'", b": ",
    b", ", b"\n", b"- ", b"&a ", b"*a", b"!!int ", b"|\n ",
    b"\\ud800", b"\\u0000", b"\0", b"\xff", b"\xed\xa0\x80", b"1e999", b"-1", b"NaN", b"null", b"~",
    b"99999999999999999999", b"0x", b"? ", b"%YAML 1.1\n", b"---\n", b"<<: ", b"{{", b"}}", b"{%",
    b"%}",
    b"(a+)+", b"{1,9999}", b"(?=", b"$ref", b"\x1b[2J", b"\xe2\x80\xae", b"=", b".nan", b"true",
    b"#",
]  # fmt: skip

_JOB = b"""name: fuzz
model: gemma-3-270m
input: {path: [rows/*.parquet, "more.jsonl"], format: parquet}
prompt: {jinja: "{% for t in tags %}{{ t | upper }}{% endfor %}{{ text[:9] ~ 'x' * 3 }}"}
instructions: Label.
examples: [{tags: [a], text: fine, answer: positive}]
output: {path: out, keep: [id, text]}
label: {json_schema: {type: object, properties: {a: {type: string, pattern: "a{1,3}|b+"},
  b: {type: array, items: {$ref: "#/$defs/c"}}}, $defs: {c: {type: integer, minimum: 0}}}}
sampling: {temperature: 0.5, max_tokens: 9, stop: ["x"], seed: 7}
engine: {kind: simulated, max_model_len: 64, simulated: {num_blocks: 99}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def gguf(place: Path) -> bytes:
    path = write_gguf(place / "healthy.gguf", chat_template="{{ messages }}")
    return path.read_bytes()


def _job_file(place: Path, content: bytes) -> None:
    path = place / "job.yaml"
    path.write_bytes(content)
    _survives(lambda: load_job(path, ["sampling.top_k=3"]))


def _gguf_file(place: Path, content: bytes) -> None:
    path = place / "evil.gguf"
    path.write_bytes(content)

    def read() -> None:
        file = GgufFile(path)
        file.config()
        write_gguf_tokenizer(file, place)

    _survives(read)


def _json_lines(place: Path, content: bytes) -> None:
    path = str(place / "rows.jsonl")
    Path(path).write_bytes(content)
    builder = PromptBuilder(job(prompt="{text}"), Tokenizer(write_tokenizer(place / "tokenizer")))

    def read() -> None:
        found = scan(path, path, Input(path=path))
        if not found.rows:
            return
        with closing(JsonlReader(path, found.schema, found.offsets)) as reader:
            rows = reader.read(0, found.rows)
        assert rows.table.num_rows == found.rows
        plain, _ = plain_rows(rows.table)
        assert len(builder.build(plain)) == found.rows

    _survives(read)


_FUZZED: dict[str, tuple[Callable[[Path, bytes], None], bytes | None]] = {
    "job files": (_job_file, _JOB),
    "GGUF files": (_gguf_file, None),
    "JSON lines": (
        _json_lines,
        b"".join(
            json.dumps(
                {"text": f"row {i}", "n": i, "x": 1.5, "more": {"a": [i, None]},
                "s": {"max_tokens": 3}}
            ).encode() + b"\n"
            for i in range(3)
        ),
    ),
}  # fmt: skip


def _fuzz(what: str, place: Path, gguf: bytes, number: int) -> None:
    check, healthy = _FUZZED[what]
    dice = random.Random(what)
    for _ in range(number):
        check(place, _mutated(gguf if healthy is None else healthy, dice))


@pytest.mark.parametrize("what", _FUZZED)
def test_damaged_input_is_refused_or_read(what: str, place: Path, gguf: bytes) -> None:
    _fuzz(what, place, gguf, _FEW)


@pytest.mark.long
@pytest.mark.parametrize("what", _FUZZED)
def test_much_damaged_input_is_refused_or_read(what: str, place: Path, gguf: bytes) -> None:
    _fuzz(what, place, gguf, _MANY)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner,
    max_size=4),
    max_leaves=12,
)  # fmt: skip
_KEYS = [
    "name", "model", "input", "path", "prompt", "jinja", "column", "output", "keep", "label",
    "regex",
    "choices", "json_schema", "type", "properties", "$ref", "sampling", "engine", "kind",
    "messages",
    "role", "content", "examples", "answer", "score", "duplicates", "store", "resources", "workers",
]  # fmt: skip


@_examples(_FEW)
@given(
    st.dictionaries(st.sampled_from(_KEYS), st.dictionaries(st.sampled_from(_KEYS), _JSON) | _JSON)
)
def test_any_mapping_is_a_job_or_refused(place: Path, content: dict[str, Any]) -> None:
    _job_file(place, json.dumps(content).encode())


@_examples(_FEW)
@given(st.lists(_JSON | st.dictionaries(st.sampled_from(["text", "n", "é"]), _JSON), max_size=6))
def test_any_json_is_rows_or_refused(place: Path, rows: list[Any]) -> None:
    _json_lines(place, b"".join(json.dumps(row).encode() + b"\n" for row in rows))


@_examples(_FEW)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_read(place: Path, content: bytes) -> None:
    for check, _ in _FUZZED.values():
        check(place, content)
    _gguf_file(place, b"GGUF\3\0\0\0" + content)


@_examples(_FEW)
@given(_JSON, st.sampled_from(list(Sampling.model_fields)))
def test_any_value_of_a_row_is_sampling_or_refused(value: object, name: str) -> None:
    _survives(lambda: Sampling().overridden_by({name: value}))
    _survives(lambda: Sampling().overridden_by(json.dumps({name: value})))
    _survives(lambda: Sampling().overridden_by(json.dumps(value)))


_PARTS = st.sampled_from(
    ["{{ ", " }}", "{% for i in ", " %}", "{% endfor %}", "a", "x", "[a, x]", "range(99)", "i",
    " ~ ",
     " * ", " ** ", " + ", "9999", "'%9d'", " % ", " | join", " | list", " | length", "(", ")",
     ".format",
     "{% if ", "{% endif %}", "{% set x = ", "a.b", "a[1:]", "{% macro m() %}", "{% endmacro %}",
     "m()",
     "loop.index", "{% set ns = namespace(x=a) %}", "ns.x", " | replace('a', 'bb')", " is defined"]
)  # fmt: skip


@_examples(3 * _FEW)
@given(st.lists(_PARTS, max_size=14).map("".join), _JSON)
def test_any_template_ends(source: str, value: object) -> None:
    try:
        template = Template(source, jinja=True)
    except ValueError:
        return
    _survives(lambda: template.render({"a": value, "x": "text", "i": 3}))


@_examples(_FEW)
@given(st.binary(max_size=40), st.integers(-(2**63), 2**63 - 1))
def test_any_bits_of_a_column_are_rows_or_not(content: bytes, number: int) -> None:
    table = pa.table(
        {
            "text": pa.array([content]).view(pa.string()),
            "when": pa.array([number], pa.timestamp("us")),
            "fine": pa.array([number], pa.timestamp("ns", "Europe/Berlin")),
            "long": pa.array([number], pa.duration("ns")),
        }
    )
    rows, wrong = plain_rows(table)
    assert len(rows) == 1
    assert bool(rows[0]) != bool(wrong)
