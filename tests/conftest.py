"""What tests of whole commands share: the real model, small inputs, and ways to run rackmill.

``ask`` runs a command in this process with Ray and vLLM out of reach: for everything that must
be answered without them. ``launcher`` runs the real command as a process of its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import typer

import pipeline.model.tokenizer as tokenizer_module
from pipeline.driver.trust import rewrite_reports
from pipeline.model.folder import ModelFolder
from pipeline.model.store.resolve import resolve
from pipeline.model.tokenizer import Tokenizer
from pipeline.report.trust.picture import draw_trust
from pipeline.rows.work_order import unit_rows
from tests.support import small_vocabulary
from tests.support.fake_cards import fake_cards as fake_cards
from tests.support.processes import Finished, Launcher
from tests.support.ray_head import _files_with_ray as _files_with_ray
from tests.support.ray_head import _shared as _shared
from tests.support.ray_head import ray_ends as ray_ends
from tests.support.ray_head import shared_ray as shared_ray
from tests.support.samples import CHAT_TEMPLATE, write_tokenizer
from tests.support.storages import memory as memory
from tests.support.storages import storage as storage
from tests.support.summary import pytest_terminal_summary as pytest_terminal_summary


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--core-each",
        action="store_true",
        help="processes that share the tests share the cores: threads of one's engine would wait"
        " for those of the other's",
    )


@pytest.fixture(scope="session", autouse=True)
def _cores_of_its_own(request: pytest.FixtureRequest) -> None:
    worker = os.environ.get("PYTEST_XDIST_WORKER")  # gw0, gw1, …
    if worker and request.config.getoption("core_each"):
        count = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        cores = sorted(os.sched_getaffinity(0))[int(worker.removeprefix("gw")) :: count]
        if cores:
            os.sched_setaffinity(0, cores)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first, and before all those that start Ray: where several processes
    share the tests, whole files each, none of them is left with a long one while the others have
    nothing to do."""
    found = {
        name: {item.path for item in items if item.get_closest_marker(name)}
        for name in ("ray", "early", "engine", "alone")
    }
    for name in ("engine", "alone"):
        for path in found[name]:
            words = f"mark.{name}"
            assert words in path.read_text(), f"{path}: infra/test looks for {words} in it"
    items.sort(key=lambda item: (item.path not in found["ray"], item.path not in found["early"]))


@pytest.fixture(scope="module", autouse=True)
def _no_one_learns_from_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Runs of tests do not go into the user's profile, nor does it change what tests see. Each file
    has its own: which files one process tests before another is a matter of chance."""
    os.environ["RACKMILL_PROFILE"] = str(tmp_path_factory.mktemp("profile") / "profile.jsonl")


@pytest.fixture(scope="session")
def _small_vocabulary(model: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("store") / "home"
    small_vocabulary.write_store(home, model)
    return home


@pytest.fixture(scope="module", autouse=True)
def _quick_to_read(request: pytest.FixtureRequest, _files_with_ray: set[Path]) -> Iterator[None]:
    """The many processes of runs without a real engine have the small vocabulary."""
    here = [item for item in request.session.items if item.path == request.path]
    with pytest.MonkeyPatch.context() as patch:
        if request.path in _files_with_ray and not any(
            i.get_closest_marker("engine") for i in here
        ):
            patch.setenv("RACKMILL_HOME", str(request.getfixturevalue("_small_vocabulary")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _tokenizers_stay_read() -> Iterator[None]:
    """A command reads one tokenizer and keeps it; tests take turns with several, of which Gemma's
    takes more than a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            tokenizer_module, "_parsed", lru_cache(16)(tokenizer_module._parsed.__wrapped__)
        )
        yield


@pytest.fixture(scope="session", autouse=True)
def _commands_stay_made() -> Iterator[None]:
    """A process makes the tree of all verbs once, and that takes it longer than many a command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", cache(typer.main.get_command))
        yield


@pytest.fixture(scope="session", autouse=True)
def _pictures_stay_drawn() -> Iterator[None]:
    """One of the same numbers is the same, and is drawn once: many tests end in the same report."""
    drawn: dict[str, bytes | None] = {}

    def draw(blocks: Mapping[str, Mapping[str, Any]]) -> bytes | None:
        numbers = repr(blocks)
        if numbers not in drawn:
            drawn[numbers] = draw_trust(blocks)
        return drawn[numbers]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rewrite_reports, "draw_trust", draw)
        yield


@pytest.fixture(scope="module")
def large_units() -> Iterator[None]:
    """Units of 128 rows, as larger inputs have them: a few hundred rows are a few units, and row
    groups and parts of units cut through some of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "pipeline.driver.plan.plan.unit_rows", lambda *given: max(128, unit_rows(given[0], 2))
        )
        yield


@pytest.fixture(scope="session")
def model() -> ModelFolder:
    """Gemma 3 270M in int4; converted once a machine."""
    return resolve("gemma-3-270m")


@pytest.fixture(scope="session")
def launcher(model: ModelFolder) -> Iterator[Launcher]:
    """Runs commands; whatever they leave behind is stopped in the end."""
    launcher = Launcher()
    yield launcher
    launcher.close()


@pytest.fixture
def ask(
    model: ModelFolder,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Callable[..., Finished]:
    """Runs a command in ``tmp_path``; importing Ray or vLLM there fails."""
    from pipeline.cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # where a crash leaves its report
    for module in ("ray", "vllm", "pipeline.cluster.ray_cluster"):
        monkeypatch.setitem(sys.modules, module, None)

    def run(*arguments: object) -> Finished:
        monkeypatch.setattr(sys, "argv", ["rackmill", *map(str, arguments)])
        code: Any = 0
        try:
            main()
        except SystemExit as e:
            code = e.code or 0
        out, err = capfd.readouterr()
        return Finished(code, out, err)

    return run


_TOPICS = ("flight", "bag", "crew", "seat", "delay")


def tweets(rows: int, start: int = 0) -> pa.Table:
    """Rows with an ``id`` that counts from ``start`` and a ``text`` of its own for each."""
    ids = list(range(start, start + rows))
    return pa.table(
        {
            "id": ids,
            "text": [f"tweet {i} about a {_TOPICS[i % len(_TOPICS)]}" for i in ids],
            "sentiment": ["negative" if i % 3 else "positive" for i in ids],
        }
    )


@pytest.fixture(scope="session")
def make_tweets() -> Callable[..., pa.Table]:
    return tweets


@pytest.fixture(scope="session")
def write_shards() -> Callable[..., Path]:
    """Writes ``shard-N.parquet`` files with so many tweets each into a folder."""

    def write(folder: Path, *rows: int) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        start = 0
        for number, count in enumerate(rows):
            pq.write_table(tweets(count, start), folder / f"shard-{number}.parquet")
            start += count
        return folder

    return write


@pytest.fixture(scope="session")
def read_output() -> Callable[[Path], pa.Table]:
    """Reads an output folder as any Parquet reader would: one dataset, files in name order."""

    def read(folder: Path) -> pa.Table:
        return pyarrow.dataset.dataset(folder, format="parquet").to_table()

    return read


@pytest.fixture(scope="session")
def files_of() -> Callable[[Path], dict[str, tuple[bytes, int]]]:
    """An output folder's data files: name -> (content, time of change in ns)."""

    def files(folder: Path) -> dict[str, tuple[bytes, int]]:
        found = sorted(folder.glob("*.parquet"))
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in found}

    return files


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A small tokenizer of a base model."""
    return Tokenizer(write_tokenizer(tmp_path_factory.mktemp("base")))


@pytest.fixture(scope="session")
def chat_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A small tokenizer of a chat model."""
    folder = tmp_path_factory.mktemp("chat")
    return Tokenizer(write_tokenizer(folder, chat_template=CHAT_TEMPLATE))
