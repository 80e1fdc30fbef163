"""Text in a job file is what is written there, with quotes or without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline import Job, UsageError, load_job

_BASE = "name: n\nmodel: m\ninput: {path: in}\nprompt: 'Q {text}'\noutput: {path: out}\n"
_WORDS = [
    *("1.10", "012", "10:30", "+49", "yes", "No", "off", "0x1F", "1_000", "2024-01-01", "1e5"),
    *("2024-01-01T10:00:00Z", ".5", "true", "y"),
]


def loaded(tmp_path: Path, text: str, *settings: str) -> Job:
    path = tmp_path / "job.yaml"
    path.write_text(_BASE + text)
    return load_job(path, settings)


@pytest.mark.parametrize("word", _WORDS)
def test_of_choices(tmp_path: Path, word: str) -> None:
    job = loaded(tmp_path, f"label: {{choices: [{word}, other]}}")

    assert job.label is not None
    assert job.label.choices == (word, "other")


@pytest.mark.parametrize("word", [*_WORDS, "null", "~"])
def test_of_examples(tmp_path: Path, word: str) -> None:
    job = loaded(tmp_path, f"examples: [{{text: {word}, answer: {word}}}]")

    assert job.examples == ({"text": word, "answer": word},)


@pytest.mark.parametrize("word", _WORDS)
@pytest.mark.parametrize(
    ("key", "read"),
    [
        ("instructions", lambda job: job.instructions),
        ("sampling.stop", lambda job: job.sampling.stop),
        ("output.path", lambda job: job.output.path),
        ("prompt", lambda job: job.prompt.template),
    ],
)
def test_of_every_key_that_takes_text(tmp_path: Path, word: str, key: str, read: Any) -> None:
    """Given with --set, or in the file: both are read alike."""
    assert read(loaded(tmp_path, "", f"{key}={word}")) == word


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("sampling: {max_tokens: 12}", 12),
        ("engine: {enforce_eager: yes}", True),
        ("engine: {max_model_len: 1_000}", 1000),
    ],
)
def test_numbers_and_truths_stay_what_they_are(tmp_path: Path, line: str, value: object) -> None:
    dumped = loaded(tmp_path, line).model_dump()

    section, _, key = line.partition(": {")
    assert dumped[section][key.partition(":")[0]] == value


@pytest.mark.parametrize("word", ["010", "10:30", "0x10"])
def test_a_number_that_is_another_one_to_yaml_is_refused_with_its_line(
    tmp_path: Path, word: str
) -> None:
    with pytest.raises(UsageError, match=f'line 6: sampling.max_tokens: YAML reads {word} as .*"'):
        loaded(tmp_path, f"sampling: {{max_tokens: {word}}}")


@pytest.mark.parametrize("word", ["yes", "NO", "012", "1_0", "2024-01-01", "10:30", "~"])
def test_in_a_schema_either_could_be_meant(tmp_path: Path, word: str) -> None:
    schema = f"{{type: object, properties: {{a: {{enum: [{word}, x]}}}}}}"

    with pytest.raises(UsageError, match=f"line 6: .*enum.0: YAML reads {word} as .*quote it"):
        loaded(tmp_path, f"label: {{json_schema: {schema}}}")


@pytest.mark.parametrize("word", ["true", "null", "12", "-1.5", "word"])
def test_in_a_schema_what_json_reads_alike_is_taken(tmp_path: Path, word: str) -> None:
    schema = f"{{type: object, properties: {{a: {{enum: [{word}, x]}}}}}}"

    assert loaded(tmp_path, f"label: {{json_schema: {schema}}}").label is not None


def test_a_choice_that_is_null_is_refused_with_the_quoted_form(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r'line 6: label.choices: a choice is null.*"null"'):
        loaded(tmp_path, "label: {choices: [null, other]}")
