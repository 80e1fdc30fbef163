"""The documents are true: commands run as printed; keys, options, paths, links and names exist."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from pipeline import Job, job_from, load_job
from pipeline.cli.app import app
from tests.chaos.in_process import ALONE

ROOT = Path(__file__).parent.parent
# in this order their commands run
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "jobs/README.md",
    *sorted((ROOT / "infra").glob("*.md")),
    ROOT / "tests/bench/README.md",
    ROOT / "pipeline/README.md",
    ROOT / ".github/CONTRIBUTING.md",
    ROOT / ".github/SECURITY.md",
]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in DOCUMENTS}
README = TEXTS["README.md"]
FIRST_SCREEN = README[:3000]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# sh: run here; console: runs elsewhere, or needs a card, root or minutes; none: how it is called
LANGUAGES = {"sh", "console", "python", "yaml", "text", ""}
_WITH_ENGINE = ("run ", "quality ", "schedule apply ", "submit ")
_BY_THEMSELVES = ("run ", "quality ")  # start a Ray
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_PATH = re.compile(r"[\w.@*-]*(?:/[\w.@*-]+)*/?")
_ENDINGS = (".py", ".md", ".json", ".yaml", ".yml", ".toml", ".service", ".txt")
_FOLDERS = ("pipeline/", "tests/", "infra/", "jobs/", ".github/", ".ci/")
# names of files that a run or a model has, and of examples
_OTHERS = ["report.md", "summary.json", "job.json", "history.md", "config.json", "judge.json"]
_EXAMPLES = ["job.yaml", "JOB.yaml", "gpu-CARD.json", "kind.py", "file.py"]
_CALL = re.compile(r"^(?:.*bin/)?rackmill ([a-z].*)")


def blocks(*languages: str, texts: dict[str, str] = TEXTS) -> list[str]:
    found = [match for text in texts.values() for match in _FENCE.findall(text)]
    return [content for language, content in found if language in languages]


def commands() -> list[str]:
    lines = [line.split("  #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line]


def prose(text: str) -> str:
    return _FENCE.sub("", text)


def inline_code(text: str) -> list[str]:
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(text))]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that looks like a clone: what a command writes does not end up in this one."""
    subprocess.run(["./infra/setup", "--test"], cwd=ROOT, check=True)  # or the clone would do it
    folder = tmp_path_factory.mktemp("clone")
    for path in ROOT.iterdir():
        if path.name not in (".git", "data", "runs"):
            (folder / path.name).symlink_to(path)
    yield folder
    if (folder / "state/rack.json").exists():  # a command after it failed
        shell(".venv/bin/rackmill rack stop", folder)


def shell(command: str, folder: Path) -> str:
    environment = dict(os.environ)
    if " quality " in command:  # it compares tokenizers of models: not one that was made smaller
        environment.pop("RACKMILL_HOME", None)
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment
        | {
            "PYTHONWARNINGS": "default",
            "RACKMILL_STATE": str(folder / "state"),
            "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_is_short_and_both_commands_stand_in_its_first_screen() -> None:
    assert "./infra/demo" in FIRST_SCREEN
    assert "./infra/test" in FIRST_SCREEN
    assert 150 <= len(README.splitlines()) <= 200


def test_every_block_says_what_it_is() -> None:
    used = {language for text in TEXTS.values() for language, _ in _FENCE.findall(text)}
    assert used <= LANGUAGES


@pytest.mark.ray
def test_every_other_command_runs_in_the_order_printed(checkout: Path) -> None:
    """With the simulated engine, and of the runs those alone with Ray that are on the rack or of a
    schedule, so that this takes seconds."""
    (checkout / "alone.py").write_text(ALONE)
    others = [c for c in commands() if not c.startswith("./infra/")]
    assert len(others) >= 5
    for command in others:
        engine = any(f"rackmill {name}" in command for name in _WITH_ENGINE)
        simulated = " --set engine.kind=simulated" if engine else ""
        starts_ray = any(f"rackmill {name}" in command for name in _BY_THEMSELVES)
        if starts_ray and "--address" not in command:
            command = command.replace(".venv/bin/rackmill", ".venv/bin/python alone.py")
        shell(command + simulated, checkout)


@pytest.mark.engine
def test_the_demo_labels_512_tweets_and_mostly_agrees_with_people(checkout: Path) -> None:
    shell("./infra/demo", checkout)
    summary = json.loads((checkout / "runs/label-tweets/_rackmill/summary.json").read_text())
    assert (summary["rows"], summary["failed"]) == (512, 0)
    assert summary["accuracy"] >= 0.8
    assert set(summary["labels"]) == {"negative", "positive"}


@pytest.mark.long
def test_the_command_is_installed_for_every_folder(tmp_path: Path) -> None:
    """As the README says, into folders of the test; about 4 GB."""
    assert "uv tool install '.[cpu,demo]'" in README
    uv = ROOT / ".venv/bin/uv"
    folders = {f"UV_TOOL_{name}": str(tmp_path / name) for name in ("DIR", "BIN_DIR")}
    subprocess.run(
        [uv, "tool", "install", "--quiet", f"rackmill[cpu,demo] @ file://{ROOT}"],
        env=os.environ | folders,
        check=True,
        timeout=1200,
    )

    demo = [tmp_path / "BIN_DIR" / "rackmill", "demo", "--rows", "16"]
    done = subprocess.run([*demo, "--set", "engine.kind=simulated"], cwd=tmp_path, timeout=600)
    assert done.returncode == 0
    assert (tmp_path / "runs/label-tweets/_SUCCESS").exists()


# -- job files


def test_the_job_file_in_the_readme_is_the_one_in_jobs_but_for_an_example() -> None:
    printed = job_from(yaml.safe_load(blocks("yaml")[0]))
    shipped = load_job(ROOT / "jobs/gsm8k.yaml")
    assert printed.model_copy(update={"examples": shipped.examples}) == shipped


@pytest.mark.parametrize("text", blocks("yaml"))
def test_every_piece_of_a_job_file_is_right(text: str) -> None:
    whole = yaml.safe_load((ROOT / "jobs/gsm8k.yaml").read_text(encoding="utf-8"))
    job_from(whole | yaml.safe_load(text))


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for argument in get_args(annotation) for model in models_in(argument)]


def fields_of(
    model: type[BaseModel], above: str = "", seen: set[type[BaseModel]] | None = None
) -> dict[str, Any]:
    """Dotted key -> field; the keys of a section that was met before are explained there."""
    seen = set() if seen is None else seen
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        found[above + name] = field
        for inner in models_in(field.annotation):
            if inner not in seen:
                seen.add(inner)
                found |= fields_of(inner, f"{above}{name}.", seen)
    return found


KEYS = fields_of(Job)
KEY_ROWS = re.findall(r"^\| `([a-zA-Z_.]+)` \| (.+?) \| (.+) \|$", TEXTS["jobs/README.md"], re.M)


def test_every_key_of_the_job_file_is_documented_once_and_every_documented_key_is_one() -> None:
    documented = [key for key, _, _ in KEY_ROWS]
    sections = {key for key in KEYS if any(other.startswith(f"{key}.") for other in KEYS)}
    assert len(documented) == len(set(documented))
    assert set(KEYS) - sections <= set(documented)
    assert set(documented) <= set(KEYS)


@pytest.mark.parametrize(("key", "default"), [row[:2] for row in KEY_ROWS])
def test_the_default_that_is_documented_is_the_real_one(key: str, default: str) -> None:
    field = KEYS[key]
    if field.is_required():
        assert default == "required"
        return
    real = field.get_default(call_default_factory=True)
    assert real is not PydanticUndefined
    real = list(real) if isinstance(real, tuple) else real
    assert yaml.safe_load(default.strip("`")) == real


# -- Python, extras, commands


@pytest.mark.parametrize("code", blocks("python"))
def test_python_snippets_name_things_that_exist(code: str) -> None:
    """Only imports are checked: running them would load the engine."""
    for line in code.splitlines():
        if line.startswith(("import", "from")):
            subprocess.run([sys.executable, "-c", line], check=True, cwd=ROOT)


def test_the_documented_extras_exist() -> None:
    lists = re.findall(r"'?\.\[([\w,]+)\]", "".join(TEXTS.values()))
    extras = {extra for named in lists for extra in named.split(",")}
    assert {"cpu", "cuda", "demo", "s3"} <= extras
    assert extras <= set(PROJECT["project"]["optional-dependencies"])


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, inner in command.commands.items():
        yield from leaves(inner, (*path, name))


COMMANDS = dict(leaves(typer.main.get_command(app)))


def calls() -> list[str]:
    """What documents say of the command line: what stands behind `rackmill`."""
    lines = []
    for text in TEXTS.values():
        lines += inline_code(text)
        for language, block in _FENCE.findall(text):
            if language in ("", "sh", "console"):
                lines += re.sub(r"\n[ \t]+", " ", block).splitlines()
    return [match[1] for line in lines if (match := _CALL.match(line))]


@pytest.mark.parametrize("call", sorted(set(calls())))
def test_verbs_and_options_exist(call: str) -> None:
    words = set(re.findall(r"(?<![\w-])[a-z][a-z-]*", call))
    meant = {path: command for path, command in COMMANDS.items() if path[0] in words}
    assert meant
    parameters = [parameter for command in meant.values() for parameter in command.params]
    known = {option for p in parameters for option in (*p.opts, *p.secondary_opts)}
    assert set(re.findall(r"(?<![\w-])--[a-z-]+", call)) <= known


def test_every_verb_is_documented() -> None:
    words = [set(re.findall(r"[a-z-]+", call)) for call in calls()]
    shown = [path for path, command in COMMANDS.items() if not command.hidden]
    assert [path for path in shown if not any(set(path) <= said for said in words)] == []


# -- links, paths, names


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links() -> list[tuple[str, str]]:
    found = [
        (document, target)
        for document, text in TEXTS.items()
        for target in re.findall(r"\]\(([^)\s]+)\)", prose(text))
    ]
    return [(document, target) for document, target in found if "://" not in target]


@pytest.mark.parametrize(("document", "target"), links())
def test_every_link_leads_somewhere(document: str, target: str) -> None:
    path, _, anchor = target.partition("#")
    there = (ROOT / document).parent / path if path else ROOT / document
    assert there.exists()
    if anchor:
        assert anchor in anchors(there.read_text(encoding="utf-8"))


def paths() -> list[tuple[str, str, str]]:
    """Document, path, and perhaps the name of something in that file."""
    found = set()
    for document, text in TEXTS.items():
        code = inline_code(text)
        code += [word for _, block in _FENCE.findall(text) for word in block.split()]
        for word in code:
            path, _, name = word.removeprefix("./").partition(":")
            if not _PATH.fullmatch(path) or (name and not name.replace(".", "").isidentifier()):
                continue
            last = path.rpartition("/")[2]
            if last in _EXAMPLES and not (ROOT / path).exists():
                continue
            ours = path.startswith(_FOLDERS) and "/NAME/" not in path
            if ours or (last.endswith(_ENDINGS) and last not in (*_OTHERS, *_ENDINGS)):
                found.add((document, path, name))
    return sorted(found)


def files(document: str, path: str) -> list[Path]:
    folder = (ROOT / document).parent
    places = [ROOT, folder, folder / "results", ROOT / "tests/bench"]
    return [file for place in places for file in place.glob(path)]


@pytest.mark.parametrize(("document", "path", "name"), paths())
def test_every_path_and_every_name_in_a_file_exists(document: str, path: str, name: str) -> None:
    found = files(document, path)
    assert found
    if name:
        assert name in names_in(found[0])


@cache
def names_in(path: Path) -> set[str]:
    """Functions, classes and their members, and constants of a Python file."""
    return set(_names(ast.parse(path.read_text(encoding="utf-8")).body))


def _names(body: list[ast.stmt], above: str = "") -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield above + node.name
        if isinstance(node, ast.ClassDef):
            yield from _names(node.body, f"{node.name}.")
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield above + node.target.id
        if isinstance(node, ast.Assign):
            yield from (above + t.id for t in node.targets if isinstance(t, ast.Name))


def test_the_layers_in_the_document_are_those_that_are_held() -> None:
    table = TEXTS["pipeline/README.md"].split("| layer |")[1].split("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    held = next(one["layers"] for one in contracts if one["type"] == "layers")
    assert [re.findall(r"`(\w+)`", row) for row in rows] == [
        [name.strip() for name in layer.split("|")] for layer in held
    ]


def test_every_result_of_a_benchmark_is_explained() -> None:
    there = {path.name for path in (ROOT / "tests/bench/results").glob("*.json")}
    assert there <= set(inline_code(TEXTS["tests/bench/README.md"]))
