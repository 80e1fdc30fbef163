"""`rackmill quality`: what it refuses at once, and a whole comparison by simulated engines."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.chaos.in_process import ALONE
from tests.support.samples import write_model

_REFERENCE, _CANDIDATE = "models/whole", "models/small"
_QUALITY = ("quality", "--reference", _REFERENCE, "--candidate", _CANDIDATE, "--data", "texts.csv")
_SIMULATED = ("--set", "engine.kind=simulated", "--top-k", "32")


def _prepare(folder: Path) -> None:
    write_model(folder / _REFERENCE)
    shutil.copytree(folder / _REFERENCE, folder / _CANDIDATE)
    lines = ["id,text", *(f"{i},a text number {i}" for i in range(40)), "40,"]
    (folder / "texts.csv").write_text("\n".join(lines) + "\n")


class TestRefused:
    def refusal(self, ask, tmp_path: Path, *arguments: str) -> str:
        _prepare(tmp_path)
        finished = ask(*_QUALITY, *arguments)
        assert finished.code == 2
        assert finished.out == ""
        return str(finished.err)

    def test_an_unknown_column_with_the_nearest_name(self, ask, tmp_path: Path) -> None:
        said = self.refusal(ask, tmp_path, "--column", "txet")

        assert "--column txet: texts.csv has no such column" in said
        assert "did you mean text?" in said

    def test_an_unknown_model_with_the_nearest_name(self, ask, tmp_path: Path) -> None:
        assert "gemma-3-270m" in self.refusal(ask, tmp_path, "--candidate", "gemma-3-27m")

    def test_a_model_named_twice(self, ask, tmp_path: Path) -> None:
        assert "named twice" in self.refusal(ask, tmp_path, "--candidate", _CANDIDATE)

    def test_no_data(self, ask, tmp_path: Path) -> None:
        assert "nothing.csv" in self.refusal(ask, tmp_path, "--data", "nothing.csv")

    def test_scores_that_no_memory_holds(self, ask, tmp_path: Path) -> None:
        _prepare(tmp_path)
        long = "a long text " * 2500
        (tmp_path / "texts.csv").write_text("text\n" + f"{long}\n" * 128)

        finished = ask(*_QUALITY, "--top-k", "16384")

        assert finished.code == 2
        assert "--top-k 16384: the scores of texts of 30,0" in finished.err
        assert "give --top-k" in finished.err

    def test_models_with_different_tokenizers(self, ask, tmp_path: Path) -> None:
        _prepare(tmp_path)
        path = tmp_path / _CANDIDATE / "tokenizer.json"
        content = json.loads(path.read_text())
        vocabulary = content["model"]["vocab"]
        vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
        path.write_text(json.dumps(content))

        finished = ask(*_QUALITY)

        assert finished.code == 2
        assert "different tokenizers: 2 tokens differ, 'a' for one" in finished.err


@dataclass(frozen=True)
class Compared:
    folder: Path
    first: dict[str, object]
    second: dict[str, object]
    printed: str


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, launcher) -> Compared:
    """The command, the same command again, and once more for people."""
    folder = tmp_path_factory.mktemp("quality")
    _prepare(folder)
    runs = [
        launcher.python("-c", ALONE, *_QUALITY, *_SIMULATED, *end, cwd=folder)
        for end in (("--json",), ("--json",), ())
    ]
    assert [r.code for r in runs] == [0, 0, 0], runs[0].err
    return Compared(folder, runs[0].json, runs[1].json, runs[2].out)


class TestCompared:
    def test_every_statistic_comes_with_its_interval(self, compared: Compared) -> None:
        [candidate] = compared.first["candidates"]  # type: ignore[attr-defined]

        assert candidate["model"] == _CANDIDATE
        for name in (
            "perplexity",
            "reference_perplexity",
            "ratio",
            "difference",
            "kl",
            "agreement",
        ):
            assert set(candidate[name]) == {"value", "low", "high"}

    def test_engines_that_answer_alike_do_not_differ(self, compared: Compared) -> None:
        [candidate] = compared.first["candidates"]  # type: ignore[attr-defined]

        assert candidate["ratio"]["value"] == 1
        assert candidate["kl"]["value"] == pytest.approx(0, abs=1e-5)
        assert candidate["agreement"]["value"] == 1

    def test_rows_that_could_not_be_scored_are_counted_and_left_out(
        self, compared: Compared
    ) -> None:
        assert (compared.first["rows"], compared.first["failed"]) == (40, 1)

    def test_each_models_scores_are_a_dataset_of_their_own(self, compared: Compared) -> None:
        files = list((compared.folder / "runs/quality/small").glob("*.parquet"))
        table = pa.concat_tables([pq.read_table(f) for f in files])

        assert table.num_rows == 41
        assert table.schema.field("top_logprobs").type == pa.list_(pa.list_(pa.float32(), 32))

    def test_a_second_call_goes_on_from_the_scores_that_are_there(self, compared: Compared) -> None:
        assert compared.second["candidates"] == compared.first["candidates"]
        summary = compared.folder / "runs/quality/small/_rackmill/summary.json"
        assert json.loads(summary.read_text())["reused"] == 0  # the report of the run that did it

    def test_result_and_picture_are_where_it_says(self, compared: Compared) -> None:
        picture = Path(str(compared.first["picture"]))

        assert (compared.folder / picture).read_bytes().startswith(b"\x89PNG")
        written = json.loads((compared.folder / str(compared.first["result"])).read_text())
        assert written["candidates"] == compared.first["candidates"]

    def test_people_read_the_same_numbers(self, compared: Compared) -> None:
        assert "perplexity drop    × 1.000 [1.000, 1.000]" in compared.printed
        assert "left out: 1 row that could not be scored" in compared.printed
