"""What one real vLLM engine answers: with its core in the worker's process, and once more with its
core in a process of its own, as it is on a GPU."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.budget.kv_layout import KvLayout
from pipeline.engine.gpu.usable import offer
from pipeline.engine.machine.host import cpu_environment
from pipeline.engine.protocol import EngineStats
from pipeline.engine.vllm.engine import environment
from pipeline.errors import RowErrorType
from pipeline.model.folder import ModelFolder
from tests.support import engine_probe
from tests.support.engine_probe import CITY_PROMPTS, KV_BYTES, QUESTIONS, REGEX, STOPPED

pytestmark = [pytest.mark.engine, pytest.mark.ray]


@pytest.fixture(scope="module", params=[pytest.param("shared", marks=pytest.mark.long), "own"])
def probe(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    launcher,
    model: ModelFolder,
) -> dict[str, Any]:
    """``param``: where the engine's core is. In the worker's own process it is, on a CPU, in nearly
    all other tests of real engines."""
    folder = tmp_path_factory.mktemp("probe")
    variables = environment(gpu=bool(offer().gpus), eager=not offer().gpus, core=request.param) | (
        {} if offer().gpus else cpu_environment(0, 1)
    )
    answers = folder / "answers.json"
    worker = launcher.start_python(
        Path(engine_probe.__file__), model.path, answers, cwd=folder, **variables
    )
    worker.wait_until(answers.exists, "the answers were there")
    cores = worker.cores()
    worker.kill_driver()
    _, alive = psutil.wait_procs(cores, 20)
    left = [*worker.gone(20), *map(str, alive)]
    told = {"core": request.param, "cores": len(cores), "left": left}
    return json.loads(answers.read_text()) | told


@pytest.mark.parametrize("number", range(len(CITY_PROMPTS)))
def test_label_probabilities_agree_with_brute_force(number: int, probe: dict[str, Any]) -> None:
    """Choices of several tokens that share their first: the walk down the tree leaves nothing
    out that counts."""
    label, confidence = probe["cities"][number]
    expected = probe["brute_force"][number]
    assert confidence == pytest.approx(expected[label], abs=1e-2)
    assert expected[label] == pytest.approx(max(expected.values()), abs=1e-2)


def test_questions_of_a_row_are_answered_as_if_each_were_asked_alone(
    probe: dict[str, Any],
) -> None:
    """Their text is computed once: on a CPU they go one after the other in its blocks."""
    asked = probe["questions"]
    for alone, together in zip(asked["alone"], asked["in a row"], strict=True):
        assert together == pytest.approx(alone, abs=0.1)
    if probe["facts"]["device"] == "cpu":
        assert asked["steps"] == len(QUESTIONS)


def test_json_output_is_json_of_the_schema(probe: dict[str, Any]) -> None:
    result = probe["json"]
    assert result["error"] is None
    assert json.loads(result["completion"]) == result["fields"]
    assert result["fields"]["mood"] in ("glad", "sad")
    assert isinstance(result["fields"]["urgent"], bool)


def test_json_that_is_cut_off_is_an_error_that_names_the_limit(probe: dict[str, Any]) -> None:
    kind, message = probe["json_cut_off"]["error"]
    assert kind == "SchemaNotMet"
    assert "max_tokens (4)" in message


def test_regex_output_matches(probe: dict[str, Any]) -> None:
    assert probe["regex"]["error"] is None
    assert re.fullmatch(REGEX, probe["regex"]["completion"])


def test_sampling_that_vllm_will_not_have_is_the_rows_error(probe: dict[str, Any]) -> None:
    kind, message = probe["refused"]
    assert kind == "InvalidSampling"
    assert "min_tokens" in message


@pytest.mark.parametrize("name", ["unknown_token", "negative_token"])
def test_a_token_id_that_the_model_lacks_is_the_rows_error(
    name: str, probe: dict[str, Any]
) -> None:
    assert probe[name] is not None, "the engine took a token id outside its vocabulary"
    assert probe[name][0] in set(RowErrorType)


def test_the_engine_goes_on_after_refusals(probe: dict[str, Any]) -> None:
    assert probe["after_refusals"]["error"] is None
    assert probe["after_refusals"]["tokens"] >= 1


def test_an_aborted_request_never_completes(probe: dict[str, Any]) -> None:
    assert probe["aborted"] == [0]


def test_stop_strings_are_found_however_far_ahead_the_core_is(probe: dict[str, Any]) -> None:
    stopped = probe["stopped"]
    assert len(stopped["texts"]) == STOPPED
    assert stopped["reasons"].count("stop") > STOPPED / 2
    assert not any("," in text for text in stopped["texts"])


def test_tokens_of_ended_requests_are_heard_by_nobody(probe: dict[str, Any]) -> None:
    """A core of its own goes on with a request until it hears that its stop string was found."""
    assert probe["stopped"]["strangers"] == []
    # a core of its own may be ahead, or not
    assert probe["core"] == "own" or probe["stopped"]["late_tokens"] == 0


def test_a_late_token_is_not_taken_for_one_of_a_request_of_the_same_number(
    probe: dict[str, Any],
) -> None:
    assert probe["late"] == {"sampled": 4, "tokens": 4, "late": 1}


def test_a_worker_that_is_killed_leaves_no_core(probe: dict[str, Any]) -> None:
    assert probe["cores"] == (probe["core"] == "own")
    assert probe["left"] == []


def test_the_pool_has_the_blocks_that_the_budget_computes(
    probe: dict[str, Any], model: ModelFolder
) -> None:
    facts = probe["facts"]
    layout = KvLayout(model.geometry, facts["block_size"], facts["max_num_batched_tokens"])
    assert facts["num_blocks"] == layout.num_gpu_blocks(KV_BYTES) - 1


def test_nothing_is_left_running_when_all_is_answered(probe: dict[str, Any]) -> None:
    assert (probe["stats"]["running"], probe["stats"]["waiting"]) == (0, 0)


def test_an_engine_that_works_on_a_request_is_not_reset(probe: dict[str, Any]) -> None:
    assert probe["reset"]["refused"] == "vLLM still works on requests"


def test_after_a_reset_it_answers_as_before_and_counts_anew(probe: dict[str, Any]) -> None:
    reset = probe["reset"]
    assert reset["stats"] == asdict(EngineStats()) | {"sampled": []}
    assert reset["texts"][0] == reset["texts"][1] != ""
    assert 24 <= reset["steps"] <= 26
