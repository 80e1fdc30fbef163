"""Rows that want more than an answer: each becomes an error row, and the job is done."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from tests.hostile.inputs import Hostile, only, rows

pytestmark = pytest.mark.early

_INVALID, _SAMPLING, _LONG = ("InvalidRow",), ("InvalidSampling",), ("PromptTooLong",)


def _sampling(value: object) -> Hostile:
    """The second of two rows has its own sampling parameters."""
    text = value if isinstance(value, str) else json.dumps(value)
    prepare = rows(text=["one", "two"], sampling_params=[None, text])
    return Hostile(code=3, prepare=prepare, errors=_SAMPLING)


def _ids(value: list[object]) -> Hostile:
    prepare = rows(ids=pa.array([[5, 6], value], pa.list_(pa.int64())))
    return Hostile(
        code=3, lines={"prompt": "prompt: {column: ids}"}, prepare=prepare, errors=_INVALID
    )


def _jinja(source: str, **columns: object) -> Hostile:
    """A template under which both rows fail."""
    lines = {"prompt": f"prompt: {{jinja: {json.dumps(source)}}}"}
    prepare = rows(**({"text": ["one", "two"]} | columns))
    return Hostile(code=3, lines=lines, prepare=prepare, errors=_INVALID * 2)


def _jsonl(line: str | bytes, *errors: str) -> Hostile:
    """A line after a healthy one."""
    bad = line if isinstance(line, bytes) else line.encode()
    content = b'{"text": "one"}\n{"text": "two"}\n' + bad + b"\n"
    return Hostile(code=3, prepare=only("rows/a.jsonl", content), errors=errors or _INVALID)


_DOUBLING = (
    "{% set ns = namespace(x='x' ~ text) %}{% for i in range(99) %}{% set ns.x = EXPRESSION %}"
    "{% endfor %}{{ ns.x }}"
)


def _doubled(expression: str) -> Hostile:
    return _jinja(_DOUBLING.replace("EXPRESSION", expression))


_SAMPLING_CASES = {
    "a billion answers": _sampling({"n": 10**9}),
    "answers of fewer than no tokens": _sampling({"max_tokens": -1}),
    "answers of more tokens than can be counted": _sampling({"max_tokens": 10**30}),
    "a bias of a vocabulary": _sampling({"logit_bias": {str(i): 100 for i in range(50_000)}}),
    "a hundred thousand stop strings": _sampling({"stop": ["x"] * 100_000}),
    "a stop string of a megabyte": _sampling({"stop": "x" * 100_000}),
    "ten thousand bad words": _sampling({"bad_words": ["x"] * 10_000}),
    "a stop token beyond the vocabulary": _sampling({"stop_token_ids": [10**6], "min_tokens": 5}),
    "a stop token below zero": _sampling({"stop_token_ids": [-1], "min_tokens": 5}),
    "a temperature that is no number": _sampling('{"temperature": NaN}'),
    "an infinite temperature": _sampling('{"temperature": 1e999}'),
    "a penalty that makes all scores infinite": _sampling({"repetition_penalty": 1e-300}),
    "a grammar of its own": _sampling({"structured_outputs": {"regex": "(a+)+$"}}),
    "the model's own code": _sampling({"trust_remote_code": True}),
    "parameters that are a list": _sampling([1, 2]),
    "parameters that are no JSON": _sampling("{'max_tokens': __import__('os')}"),
    "parameters a hundred thousand deep": _sampling("[" * 100_000 + "]" * 100_000),
    "a name of a hundred thousand letters": _sampling({"x" * 100_000: 1}),
}

_PROMPT_CASES = {
    "a token below zero": _ids([5, -1]),
    "a token beyond the vocabulary": _ids([5, 2**31]),
    "tokens that are fractions": Hostile(
        code=3,
        lines={"prompt": "prompt: {column: ids}"},
        prepare=rows(ids=[[5.5, 6.0], [float("nan")]]),
        errors=_INVALID * 2,
    ),
    "no tokens at all": _ids([]),
    "tokens that are null": _ids([5, None]),
    "text that is not UTF-8": Hostile(
        code=3,
        prepare=rows(text=pa.array([b"one", b"\xff\xfe"]).view(pa.string())),
        errors=_INVALID,
    ),
    "a time that no calendar has": Hostile(
        code=3, prepare=rows(text=pa.array([0, 2**62], pa.timestamp("us"))), errors=_INVALID
    ),
    "a text of twenty megabytes": Hostile(
        code=3, prepare=rows(text=["one", "x " * (10 << 20)]), errors=_LONG
    ),
    "twenty texts of two megabytes": Hostile(
        code=3, prepare=rows(text=["x " * (1 << 20)] * 20), errors=_LONG * 20
    ),
}

_LINE_CASES = {
    "a line that is no JSON": _jsonl("{text: three}"),
    "a line that is not UTF-8": _jsonl(b'{"text": "\xff\xfe"}'),
    "a line of null characters": _jsonl(b"\0" * 50),
    "a line with lists a hundred deep": _jsonl('{"text": ' + "[" * 100 + "]" * 100 + "}"),
    "a line with lists a million deep": _jsonl('{"text": ' + "[" * 1_000_000 + "}"),
    "a line with half a character": _jsonl('{"text": "\\ud800"}'),
    "a line with a name that is half a character": _jsonl('{"text": "a", "\\udfff": 1}'),
    "a line with a number of five thousand digits": _jsonl('{"text": ' + "9" * 5000 + "}"),
    "a line of sixty-five megabytes": _jsonl(b'{"text": "' + b"x" * (65 << 20) + b'"}', *_LONG),
}

_TEMPLATE_CASES = {
    "a template that asks for a class": _jinja("{{ text.__class__.__mro__ }}"),
    "a template that asks for a class by filter": _jinja("{{ text | attr('__class__') }}"),
    "a template that asks for a class by format": _jinja("{{ '{0.__class__}'.format(text) }}"),
    "a template that asks for a class by map": _jinja(
        "{{ [text] | map(attribute='__class__') | join }}"
    ),
    "a template that asks for the globals of a function": _jinja(
        "{{ range.__globals__ ~ cycler.__init__.__globals__ ~ text }}"
    ),
    "a template that asks for its own frame": _jinja("{{ self.__init__ }}{{ text }}"),
    "a template that includes a file": _jinja("{{ text }}{% include '/etc/passwd' %}"),
    "a template that imports": _jinja("{% import 'os' as os %}{{ os.system('id') }}{{ text }}"),
    "a template of a thousand million rounds": _jinja(
        "{% for i in range(10**9) %}{{ text }}{% endfor %}"
    ),
    "a template of loops in loops": _jinja(
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}{{ text }}"
    ),
    "a template of loops over the row": _jinja(
        "{% for a in xs %}{% for b in xs %}{% for c in xs %}{% for d in xs %}"
        "{% if a == d %}{% endif %}"
        "{% endfor %}{% endfor %}{% endfor %}{% endfor %}",
        xs=[list(range(100))] * 2,
    ),
    "a template that calls itself twice": _jinja(
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
        "{{ f(60) }}{{ text }}"
    ),
    "a template that calls itself for ever": _jinja(
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}{{ text }}"
    ),
    "a template that repeats a text": _jinja("{{ text * 10**10 }}"),
    "a template that repeats a list": _jinja("{{ [text] * 10**10 }}"),
    "a template that raises to a power": _jinja("{{ 10 ** (10 ** 10) }}{{ text }}"),
    "a template that pads by format": _jinja("{{ '%9999999999d' | format(1) }}{{ text }}"),
    "a template that pads by percent": _jinja("{{ '%*d' % (9999999999, 1) }}{{ text }}"),
    "a template that pads by a method": _jinja("{{ '{:>9999999999}'.format(text) }}"),
    "a template that pads by an argument": _jinja("{{ '{:>{w}}'.format(text, w=9999999999) }}"),
    "a template that fills a line": _jinja("{{ text.ljust(9999999999) }}"),
    "a template that centres": _jinja("{{ text | center(9999999999) }}"),
    "a template that indents": _jinja("{{ ('\\n' * 9999) | indent(99999) }}{{ text }}"),
    "a template that cuts into slices": _jinja("{{ [text] | slice(9999999999) | list }}"),
    "a template that batches": _jinja("{{ [text] | batch(9999999999, 'x') | list }}"),
    "a template that rounds": _jinja("{{ 1.5 | round(9999999999, 'ceil') }}{{ text }}"),
    "a template that expands tabs": _jinja("{{ ('\\t' ~ text).expandtabs(9999999999) }}"),
    "a template that joins": _jinja("{{ (text * 9999).join(range(99999) | map('string')) }}"),
    "a template that replaces": _jinja("{{ ('a' * 99999 ~ text) | replace('a', 'b' * 99999) }}"),
    "a template that doubles a text": _doubled("ns.x ~ ns.x"),
    "a template that adds a text to itself": _doubled("ns.x + ns.x"),
    "a template that doubles a list": _doubled("[ns.x, ns.x]"),
    "a template that doubles a mapping": _doubled("{'a': ns.x, 'b': ns.x}"),
    "a template that doubles a namespace": _doubled("namespace(a=ns.x, b=ns.x)"),
    "a template that doubles a block": _jinja(
        "{% set ns = namespace(x=text) %}{% for i in range(99) %}{% set y %}{{ ns.x }}{{ ns.x }}"
        "{% endset %}{% set ns.x = y %}{% endfor %}{{ ns.x }}"
    ),
    "a template that sums lists": _jinja("{{ [[text] * 999] * 9 | sum(start=[]) }}"),
    "a template that changes the row": _jinja("{{ xs.append(1) }}{{ text }}", xs=[[1], [2]]),
}

_CASES = _SAMPLING_CASES | _PROMPT_CASES | _LINE_CASES | _TEMPLATE_CASES


@pytest.mark.parametrize("name", _CASES)
def test_a_hostile_row_becomes_an_error_row(name: str, face) -> None:
    face(_CASES[name])
