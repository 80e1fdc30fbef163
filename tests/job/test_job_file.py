"""Job files and --set: every mistake with its place and its fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import Job, UsageError, load_job
from pipeline.job.file.load import line_of

GOOD = """\
name: sample
model: gemma-3-270m
input:
  path: in.parquet
prompt: "{text}"
output:
  path: out
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "job.yaml"


def load(file: Path, text: str, *settings: str) -> Job:
    file.write_text(text, encoding="utf-8")
    return load_job(file, settings)


def refusal(file: Path, text: str, *settings: str) -> str:
    with pytest.raises(UsageError) as caught:
        load(file, text, *settings)
    return str(caught.value)


def test_a_good_job_file_is_a_job(file: Path) -> None:
    assert load(file, GOOD).input.path == "in.parquet"


def test_an_unknown_key_gets_its_line_and_the_nearest_known_one(file: Path) -> None:
    said = refusal(file, GOOD + "sampling:\n  temprature: 1\n")

    assert said == (
        f"{file}, line 9: unknown key 'sampling.temprature'; did you mean 'temperature'?"
    )


def test_an_unknown_key_near_none_gets_the_list_of_known_ones(file: Path) -> None:
    said = refusal(file, GOOD.replace("path: in.parquet", "path: in.parquet\n  zzz: 1"))

    assert "line 5: unknown key 'input.zzz'; known here: path, format" in said


def test_an_unknown_key_inside_a_message_gets_the_nearest_one_there(file: Path) -> None:
    text = GOOD.replace('prompt: "{text}"', "messages:\n  - {rule: user, content: x}")

    assert "line 6: unknown key 'messages.0.rule'; did you mean 'role'?" in refusal(file, text)


def test_an_unknown_key_beside_a_messages_column_gets_the_nearest_one_there(file: Path) -> None:
    text = GOOD.replace('prompt: "{text}"', "messages:\n  colum: chat")

    assert "did you mean 'column'?" in refusal(file, text)


def test_an_unknown_key_that_begins_with_a_capital_is_named(file: Path) -> None:
    assert "line 8: unknown key 'Sampling'" in refusal(file, GOOD + "Sampling: {}\n")


def test_a_key_given_twice_is_refused_with_the_second_line(file: Path) -> None:
    assert refusal(file, GOOD + "name: again\n") == f"{file}, line 8: 'name' is given twice"


def test_a_nested_key_given_twice_is_refused_too(file: Path) -> None:
    text = GOOD.replace("  path: out", "  path: out\n  path: elsewhere")

    assert "line 8: 'path' is given twice" in refusal(file, text)


def test_a_wrong_value_gets_its_line(file: Path) -> None:
    said = refusal(file, GOOD + "sampling:\n  max_tokens: many\n")

    assert f"{file}, line 9: sampling.max_tokens: " in said


def test_every_mistake_is_reported_at_once(file: Path) -> None:
    said = refusal(file, GOOD + "sampling:\n  top_p: 7\nresources:\n  workers: 0\n")

    assert "sampling.top_p" in said
    assert "resources.workers" in said


def test_a_value_that_fits_no_member_of_a_union_is_one_mistake(file: Path) -> None:
    said = refusal(file, GOOD.replace("path: in.parquet", "path: {a: b}"))

    assert len(said.splitlines()) == 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.yaml: no such job file"):
        load_job(tmp_path / "absent.yaml")


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_job(tmp_path)


def test_a_file_that_is_no_text_is_refused(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(UsageError, match="cannot be read"):
        load_job(file)


def test_bad_yaml_gets_its_line(file: Path) -> None:
    assert "line 8: not YAML" in refusal(file, GOOD + "sampling: ]\n")


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words\n", "3\n"])
def test_a_file_that_is_no_mapping_is_refused(file: Path, text: str) -> None:
    assert "`key: value`" in refusal(file, text)


def test_an_empty_file_lacks_the_required_keys(file: Path) -> None:
    assert "'name' is missing" in refusal(file, "")


def test_a_date_that_is_none_gets_its_line(file: Path) -> None:
    assert "line 8: " in refusal(file, GOOD + "instructions: 2026-13-45\n")


def test_a_key_that_is_no_word_is_refused(file: Path) -> None:
    assert "line 8" in refusal(file, GOOD + "? [a, b]\n: 1\n")


def test_yaml_tags_construct_no_objects(file: Path) -> None:
    assert "line 8" in refusal(file, GOOD + "instructions: !!python/object/apply:os.getcwd []\n")


def test_a_choice_that_is_none_gets_its_line(file: Path) -> None:
    said = refusal(file, GOOD + "label:\n  choices: [null, no]\n")

    assert "line 9: label.choices: a choice is null" in said


def test_a_setting_lies_over_the_file(file: Path) -> None:
    job = load(file, GOOD, "input.path=other.csv", "sampling.top_p=0.5")

    assert (job.input.path, job.sampling.top_p) == ("other.csv", 0.5)


def test_a_setting_is_read_as_yaml(file: Path) -> None:
    job = load(file, GOOD, "label.choices=[good, bad]", "engine.enforce_eager=true")

    assert (job.label.choices, job.engine.enforce_eager) == (("good", "bad"), True)


@pytest.mark.parametrize(
    "text", ["Say: {text}", "{text}", "- {text}", "# {text}", "[{text}]", "{text}: {id}"]
)
def test_a_setting_of_a_key_of_text_is_the_text(file: Path, text: str) -> None:
    job = load(file, GOOD, f"prompt={text}", f"instructions={text}")

    assert job.prompt is not None
    assert (job.prompt.template, job.instructions) == (text, text)


def test_a_setting_may_be_a_mapping_where_the_key_takes_one(file: Path) -> None:
    job = load(file, GOOD, "prompt={jinja: 'Say {{ text }}'}")

    assert job.prompt is not None
    assert job.prompt.jinja == "Say {{ text }}"


def test_later_settings_win(file: Path) -> None:
    assert load(file, GOOD, "name=one", "name=two").name == "two"


def test_the_wrong_value_of_a_setting_is_put_down_to_the_setting(file: Path) -> None:
    said = refusal(file, GOOD + "sampling:\n  top_p: 0.5\n", "sampling.top_p=7")

    assert said.startswith("--set sampling.top_p: ")


def test_an_unknown_key_in_a_setting_is_put_down_to_the_setting(file: Path) -> None:
    said = refusal(file, GOOD, "sampling.tpo_p=1")

    assert said.startswith("--set sampling.tpo_p: unknown key")
    assert "did you mean 'top_p'?" in said


def test_a_setting_below_an_unknown_key_is_put_down_to_the_setting(file: Path) -> None:
    said = refusal(file, GOOD, "sampler.top_p.deep=1")

    assert said.startswith("--set sampler")


def test_the_mistake_beside_a_setting_keeps_its_line(file: Path) -> None:
    said = refusal(file, GOOD + "sampling:\n  top_p: 7\n", "sampling.top_k=4")

    assert f"{file}, line 9: sampling.top_p" in said


@pytest.mark.parametrize("setting", ["name", "=x", "a..b=1", ".a=1"])
def test_a_setting_without_key_or_value_is_refused(file: Path, setting: str) -> None:
    assert refusal(file, GOOD, setting) == f"--set {setting}: write --set key.path=value"


def test_a_setting_that_is_not_yaml_is_text(file: Path) -> None:
    assert load(file, GOOD, "instructions=[ open").instructions == "[ open"


def test_a_setting_that_looks_like_a_date_and_is_none_is_text(file: Path) -> None:
    assert load(file, GOOD, "name=2026-13-45").name == "2026-13-45"


def test_the_line_of_a_top_level_key_is_found_later(file: Path) -> None:
    file.write_text(GOOD, encoding="utf-8")

    assert line_of(file, "output") == f"{file}, line 6"
    assert line_of(file, "absent") == str(file)
