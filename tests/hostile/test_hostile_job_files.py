"""Job files that want more than a job: each is refused with exit code 2, a place and a fix."""

from __future__ import annotations

import json

import pytest

from tests.hostile.inputs import Hostile, both, fifo, folder, gone, link


def _bomb(levels: int) -> str:
    lines = ['a0: &a0 ["x", "x", "x", "x", "x", "x", "x", "x", "x", "x"]']
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


def _schema(**keywords: object) -> dict[str, str]:
    schema = {"type": "object", "properties": {"a": {"type": "string"} | keywords}}
    return {"engine": f"label: {{json_schema: {json.dumps(schema)}}}"}


def _nested(depth: int) -> dict[str, object]:
    schema: dict[str, object] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def _regex(pattern: str) -> dict[str, str]:
    return {"engine": f"label: {{regex: {json.dumps(pattern)}}}"}


def _jinja(source: str) -> dict[str, str]:
    return {"prompt": f"prompt: {{jinja: {json.dumps(source)}}}"}


_YAML = {
    "a tag that calls a function": Hostile(
        ("job.yaml, line 1", "tag", "python/object/apply:os.system"),
        text='!!python/object/apply:os.system ["touch hacked"]',
    ),
    "a tag that names a function": Hostile(
        ("job.yaml, line 1", "tag", "python/name:os.system"),
        lines={"name": "name: !!python/name:os.system"},
    ),
    "a tag on a mapping within": Hostile(
        ("job.yaml, line 3", "tag"), lines={"input": "input: !!python/object:os.path {path: rows}"}
    ),
    "aliases of aliases that would fill the memory": Hostile(
        ("job.yaml, line", "aliases"), text=_bomb(12)
    ),
    "an alias that holds itself": Hostile(
        ("job.yaml",), lines={"input": "input: &loop {path: [*loop]}"}
    ),
    "lists in lists without end": Hostile(
        ("job.yaml", "nested too deeply"), text="name: " + "[" * 50_000
    ),
    "mappings in mappings without end": Hostile(
        ("job.yaml", "nested too deeply"), text="name: " + "{a: " * 50_000
    ),
    "a file of three megabytes": Hostile(("job.yaml is too large",), text="# " + "x" * (3 << 20)),
    "a file that is not UTF-8": Hostile(("job.yaml cannot be read",), text=b"name: \xff\xfe\xfa\n"),
    "a file with a null character": Hostile(("job.yaml", "not YAML"), text=b"name: a\x00b\n"),
    "a device that never ends": Hostile(
        ("job.yaml cannot be read", "not a file"), prepare=link("job.yaml", "/dev/zero")
    ),
    "a pipe that nobody writes to": Hostile(
        ("job.yaml cannot be read", "not a file"), prepare=fifo("job.yaml")
    ),
    "a folder": Hostile(
        ("job.yaml cannot be read", "folder"), prepare=both(gone("job.yaml"), folder("job.yaml"))
    ),
    "a link that leads to itself": Hostile(("job.yaml",), prepare=link("job.yaml", "job.yaml")),
    "two documents": Hostile(("job.yaml, line 2", "not YAML"), text="name: a\n---\nname: b\n"),
    "a key that is a list": Hostile(("job.yaml, line 1", "a key must be a word"), text="[a]: b\n"),
    "merge keys": Hostile(
        ("unknown key 'engine.<<'",), lines={"engine": "engine: {<<: {kind: vllm}}"}
    ),
    "half of a surrogate pair": Hostile(
        ("job.yaml, line 4", "surrogate"), lines={"prompt": 'prompt: "\\ud800 {text}"'}
    ),
    "a time before all times": Hostile(
        ("job.yaml, line 1",), lines={"name": "name: 0001-01-01 00:00:00 +23:59"}
    ),
    "a number of five thousand digits": Hostile(
        ("job.yaml, line 6",), lines={"engine": f"sampling: {{max_tokens: {'9' * 5000}}}"}
    ),
}

_VALUES = {
    "a temperature that is no number": Hostile(
        ("job.yaml, line 6", "sampling.temperature"),
        lines={"engine": "sampling: {temperature: .nan}"},
    ),
    "an infinite time": Hostile(
        ("job.yaml, line 6", "step_seconds"),
        lines={"engine": "engine: {kind: simulated, simulated: {step_seconds: .inf}}"},
    ),
    "more tokens than there are atoms": Hostile(
        ("job.yaml, line 6", "sampling.max_tokens"),
        lines={"engine": f"sampling: {{max_tokens: {10**40}}}"},
    ),
    "more cache than any card has": Hostile(
        ("job.yaml, line 6", "num_blocks"),
        lines={"engine": f"engine: {{kind: simulated, simulated: {{num_blocks: {10**18}}}}}"},
    ),
    "a context beyond all models": Hostile(
        ("job.yaml, line 6", "max_model_len"),
        lines={"engine": f"engine: {{max_model_len: {2**62}}}"},
    ),
    "a billion workers": Hostile(
        ("job.yaml, line 6", "workers"), lines={"engine": "resources: {workers: 1000000000}"}
    ),
    "a deadline without a zone": Hostile(
        ("job.yaml, line 6", "resources.deadline", "has no time zone", "8h"),
        lines={"engine": "resources: {deadline: 2026-12-01 06:00:00}"},
    ),
    "a deadline that YAML reads as a number": Hostile(
        ("job.yaml, line 6", "resources.deadline", "8:00 is no deadline", "8h"),
        lines={"engine": "resources: {deadline: 8:00}"},
    ),
    "a deadline that YAML reads as a date": Hostile(
        ("job.yaml, line 6", "resources.deadline", "2026-12-01 has no time zone", "8h"),
        lines={"engine": "resources: {deadline: 2026-12-01}"},
    ),
    "a deadline that never comes": Hostile(
        ("job.yaml, line 6", "resources.deadline", "is no deadline", "8h"),
        lines={"engine": f"resources: {{deadline: {'9' * 400}d}}"},
    ),
    "a deadline beyond the calendar": Hostile(
        ("job.yaml, line 6", "resources.deadline", "too far away", "8h"),
        lines={"engine": "resources: {deadline: '9999-12-31T23:59:59-23:59'}"},
    ),
    "a deadline that clears the terminal": Hostile(
        ("job.yaml, line 6", "resources.deadline", "is no deadline"),
        lines={"engine": 'resources: {deadline: "\\e[2J8h"}'},
    ),
    "a thousand stop strings": Hostile(
        ("job.yaml, line 6", "sampling.stop"),
        lines={"engine": f"sampling: {{stop: {json.dumps([str(i) for i in range(1000)])}}}"},
    ),
    "code of the model's own": Hostile(
        ("job.yaml, line 6", "unknown key 'engine.trust_remote_code'"),
        lines={"engine": "engine: {trust_remote_code: true}"},
    ),
    "overrides of the model's config": Hostile(
        ("job.yaml, line 6", "unknown key 'engine.hf_overrides'"),
        lines={"engine": "engine: {hf_overrides: {auto_map: {AutoConfig: evil.Config}}}"},
    ),
    "weights as a pickle": Hostile(
        ("job.yaml, line 6", "load_format"), lines={"engine": "engine: {load_format: pt}"}
    ),
    "a plug-in for the engine": Hostile(
        ("job.yaml, line 6", "unknown key 'engine.worker_cls'"),
        lines={"engine": "engine: {worker_cls: evil.Worker}"},
    ),
    "a name that climbs out of the folder": Hostile(
        ("job.yaml, line 1", "name"), lines={"name": "name: ../../etc/cron.d/evil"}
    ),
    "a name that clears the terminal": Hostile(
        ("job.yaml, line 1", "name"), lines={"name": 'name: "\\e[2J\\e]0;evil\\a"'}
    ),
    "a key that colours the terminal": Hostile(
        ("job.yaml, line 6", "\\x1b[31mpromt"), lines={"engine": '"\\e[31mpromt": x'}
    ),
    "a field that turns the writing round": Hostile(
        ("\\u202e",), lines={"prompt": 'prompt: "{\\u202etxet}"'}
    ),
    "a model that is a file of passwords": Hostile(
        ("job.yaml, line 2", "no such folder"), lines={"model": "model: ../../../etc/passwd"}
    ),
    "a model of five thousand letters": Hostile(
        ("model",), lines={"model": f"model: {'a' * 5000}"}
    ),
    "a model with a null character": Hostile(
        ("job.yaml, line 2", "control character"), lines={"model": 'model: "a\\0b"'}
    ),
    "a model on a hub that climbs out": Hostile(
        ("job.yaml, line 2", "not an address on a hub"),
        lines={"model": "model: hf://evil/model:../../../x.gguf"},
    ),
    "a template that calls itself": Hostile(
        ("job.yaml, line 4", "recursive"),
        lines=_jinja("{% for x in text recursive %}{{ loop(x) }}{% endfor %}"),
    ),
    "a template of ten thousand parentheses": Hostile(
        ("job.yaml, line 4", "Jinja"), lines=_jinja("{{ " + "(" * 10_000 + ")" * 10_000 + " }}")
    ),
    "a template of thirty loops in each other": Hostile(
        ("job.yaml, line 4", "Jinja"),
        lines=_jinja("{% for x in text %}" * 30 + "{% endfor %}" * 30),
    ),
    "a template with a number of five thousand digits": Hostile(
        ("job.yaml, line 4", "Jinja"), lines=_jinja("{{ " + "9" * 5000 + " }}")
    ),
}

_SHAPES = {
    "a regex that looks ahead": Hostile(
        ("job.yaml, line 6", "label.regex", "not for answers"), lines=_regex("(?=a)b")
    ),
    "a regex that refers to itself": Hostile(
        ("job.yaml, line 6", "label.regex", "not for answers"), lines=_regex(r"(a)\1")
    ),
    "a regex of a million characters written out": Hostile(
        ("job.yaml, line 6", "label.regex", "too large"), lines=_regex("(a{1,1000}){1,1000}")
    ),
    "a regex that repeats more often than can be counted": Hostile(
        ("job.yaml, line 6", "label.regex"), lines=_regex("a{99999999999999999999}")
    ),
    "a regex of five thousand parentheses": Hostile(
        ("job.yaml, line 6", "label.regex"), lines=_regex("(" * 5000 + "a" + ")" * 5000)
    ),
    "a schema that reads a file": Hostile(
        ("job.yaml, line 6", "leads out of the schema"),
        lines=_schema(**{"$ref": "file:///etc/passwd"}),
    ),
    "a schema that reads a page": Hostile(
        ("job.yaml, line 6", "leads out of the schema"),
        lines=_schema(**{"$ref": "http://169.254.169.254/latest/meta-data"}),
    ),
    "a schema that is its own reference": Hostile(
        ("job.yaml, line 6", "circle"), lines=_schema(**{"$ref": "#/properties/a"})
    ),
    "a schema that refers to nothing": Hostile(
        ("job.yaml, line 6", "nowhere"), lines=_schema(**{"$ref": "#/$defs/none"})
    ),
    "a schema of a hundred lists in each other": Hostile(
        ("job.yaml, line 6", "too large"), lines=_schema(**_nested(100))
    ),
    "a schema of twenty thousand words": Hostile(
        ("job.yaml, line 6", "too large"), lines=_schema(enum=[str(i) for i in range(20_000)])
    ),
    "a schema that wants a billion entries": Hostile(
        ("job.yaml, line 6", "minItems"), lines=_schema(type="array", minItems=10**9)
    ),
    "a schema with a pattern that is none": Hostile(
        ("job.yaml, line 6", "regular expression"), lines=_schema(pattern="(")
    ),
    "a schema with patterns for names": Hostile(
        ("job.yaml, line 6", "patternProperties"), lines=_schema(patternProperties={"(a+)+b": {}})
    ),
}

_CASES = _YAML | _VALUES | _SHAPES


@pytest.mark.parametrize("name", _CASES)
def test_a_hostile_job_file_is_refused(name: str, face) -> None:
    face(_CASES[name])
