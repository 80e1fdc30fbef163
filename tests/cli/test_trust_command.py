"""`rackmill trust`, as it is typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.trusted import trusted


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trusted")
    trusted(folder, rows=600)
    return folder / "out"


def test_it_says_how_good_the_labels_are_and_which_are_accepted(ask, output: Path) -> None:
    result = ask("trust", str(output), "--error", "0.1")

    assert result.code == 0, result.err
    first, quality, promise, *_, last = result.out.splitlines()
    assert first.startswith("59 gold rows from truth (taken for rows drawn at random")
    assert quality.startswith("accuracy 0.9")
    assert "calibration error" in quality
    assert " of 593 rows are accepted: at most 10 % of them wrong, with 95 % confid" in promise
    assert "written anew" in last
    assert "nothing had to be changed" in ask("trust", str(output)).out


def test_json_is_one_object(ask, output: Path) -> None:
    told = ask("trust", str(output), "--json").json

    assert told["questions"]["label"]["gold"]["rows"] == 59
    assert {"output", "questions", "files_changed"} == set(told)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--error", "0.001"], 2, "0.1 % are wrong"),
        (["--error", "7"], 2, "trust.accept.error"),
        (["--gold", "nowhere.csv"], 2, "neither a column that the output kept nor a file"),
        (["--gold", "gold.csv"], 2, "--key COLUMN"),
        (["--gold", "gold.csv", "--key", "text"], 2, "--value COLUMN"),
        (["--gold", "gold.csv", "--key", "text", "--value", "b"], 2, "none of the choices"),
    ],
)
def test_what_cannot_be_done_is_said_with_the_fix(
    ask, output: Path, tmp_path: Path, options: list[str], code: int, said: str
) -> None:
    (tmp_path / "gold.csv").write_text("text,id,a,b\ntext 1,1,good,perhaps\n")
    result = ask("trust", str(output), *options)

    assert result.code == code
    assert said in result.err
    assert "Traceback" not in result.err


def test_a_folder_without_output_is_none(ask, tmp_path: Path) -> None:
    result = ask("trust", str(tmp_path))

    assert result.code == 2
    assert "holds no output of rackmill" in result.err
