"""`rackmill model`: the catalogue, the store, converting and checking."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.cli.options import Json
from pipeline.cli.terminal.console import ERR, OUT, ProgressLine, print_json, tell
from pipeline.errors import EngineFailed, Stopped, UsageError
from pipeline.model import catalogue
from pipeline.model.folder import ModelFolder
from pipeline.model.store.steps import LineSteps, Steps, progress_text

if TYPE_CHECKING:
    from pipeline.model.verify import Check

model_app = typer.Typer(
    name="model",
    help="Models: what there is, fetch, convert, check.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Reference = Annotated[
    str,
    typer.Argument(
        metavar="NAME|PATH|hf://REPO[:FILE]",
        help="A name of the catalogue, a .gguf file, or an address on the hub.",
    ),
]
NameOrFolder = Annotated[
    str, typer.Argument(metavar="NAME|DIR", help="A name, or a checkpoint folder.")
]


@model_app.command("list")
def list_command(as_json: Json = False) -> None:
    """The catalogue, and what is in the local store."""
    from pipeline.cli.models_and_machines.model.show import catalogue_as_json, print_catalogue

    tell(catalogue_as_json(), print_catalogue, as_json=as_json)


@model_app.command("add")
def add_command(
    reference: Reference,
    revision: Annotated[
        str, typer.Option(metavar="R", help="A commit, branch or tag on the hub.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Fetch, verify, convert if needed, and store. A branch on the hub is looked at again."""
    from pipeline.cli.models_and_machines.model.show import folder_as_json, print_folder
    from pipeline.model.store.resolve import add

    with _steps() as steps:
        folder = add(reference, revision, steps)
    tell(folder_as_json(folder), print_folder, as_json=as_json)


@model_app.command("convert")
def convert_command(
    file: Annotated[Path, typer.Argument(metavar="FILE.gguf", help="The file to convert.")],
    folder: Annotated[Path, typer.Argument(metavar="OUTDIR", help="The new checkpoint folder.")],
    group_size: Annotated[int, typer.Option(metavar="N", help="Weights that share a scale.")] = 32,
    precision: Annotated[
        Literal["int4", "int8", "bf16"], typer.Option(help="Of the linear layers.")
    ] = "int4",
    keep_bf16: Annotated[
        bool,
        typer.Option("--keep-bf16", help="Keep in bf16 what would have to be quantized again."),
    ] = False,
    calibration: Annotated[
        Path | None, typer.Option(metavar="TEXTFILE", help="Texts, one a line, for GPTQ.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Turn a GGUF file into a checkpoint that vLLM runs, and say what was kept and what lost."""
    from pipeline.cli.models_and_machines.model.show import print_conversion

    texts = None if calibration is None else _texts(calibration)
    if not file.is_file():
        raise UsageError(f"no such file: {file}")
    with _steps() as steps:
        from pipeline.model.store.build import make_checkpoint

        steps.say(f"converting {file} to {precision}")
        report = make_checkpoint(
            file,
            folder,
            precision=precision,
            group_size=group_size,
            keep_bf16=keep_bf16,
            calibration=texts,
            facts={"source": file.name, "name": folder.name},
            progress=steps.progress,
        )
    tell(report, print_conversion, as_json=as_json)


@model_app.command("verify")
def verify_command(
    reference: NameOrFolder,
    run: Annotated[
        bool, typer.Option("--run/--no-run", help="Also let a real engine answer with it.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Check hashes, config, tensors and tokenizer, and run it. Exit 0: all fine; 1: not."""
    from pipeline.model.verify import Check, verify

    folder = _folder(reference)
    checks: list[Check] = []
    with _steps() as steps:
        checks += verify(folder, steps)
        if run and all(c.ok for c in checks):
            steps.say("loading an engine and letting it answer twice")
            checks.append(_smoke(folder.path))
        elif run:
            checks.append(Check("run", True, "skipped: the checks before it failed"))
    ok = all(c.ok for c in checks)
    if as_json:
        print_json({"ok": ok, "path": str(folder.path), "checks": [vars(c) for c in checks]})
    else:
        for check in checks:
            mark = "ok " if check.ok else "BAD"
            OUT.print(f"{mark}  {check.name:<10} {check.detail}")
        OUT.print(f"→ {folder.path}")
    raise typer.Exit(0 if ok else 1)


@model_app.command("info")
def info_command(reference: NameOrFolder, as_json: Json = False) -> None:
    """What a model is, where it came from and where it lies."""
    from pipeline.cli.models_and_machines.model.show import (
        entry_as_json,
        folder_as_json,
        print_entry,
        print_folder,
    )
    from pipeline.model.store.resolve import in_store

    folder = in_store(reference)
    entry = catalogue.CATALOGUE.get(reference)
    if folder is not None:
        content = (entry_as_json(entry) if entry else {}) | folder_as_json(folder)
        shown = print_folder
    elif entry is not None:
        content, shown = entry_as_json(entry), print_entry
    else:
        content, shown = {"name": reference, "path": None}, print_entry
    tell(content, shown, as_json=as_json)


def _folder(reference: str) -> ModelFolder:
    """The folder to verify: without checks, since its faults have to be reported."""
    from pipeline.model.store.resolve import in_store

    path = Path(reference)
    if path.is_dir():
        if not (path / "config.json").exists() and not any(path.glob("*.safetensors")):
            raise UsageError(f"{reference} is not a checkpoint: it has no config.json")
        return ModelFolder(path.resolve().name, path.resolve())
    folder = in_store(reference)
    if folder is None:
        raise UsageError(
            f"model: {reference} is not in the store", f"rackmill model add {reference}"
        )
    return folder


def _smoke(path: Path) -> Check:
    from pipeline.engine.standalone.smoke import smoke_run
    from pipeline.model.verify import Check

    try:
        result = smoke_run(path)
    except EngineFailed as e:
        quantization = ModelFolder(path.name, path).quantization
        if "kernel" in e.message and quantization.startswith("int8"):
            return Check("run", True, f"skipped: vLLM has no {quantization} kernel for this device")
        return Check("run", False, " ".join([e.message, *e.hints]).replace("\n", " "))
    said = f"{result.prompt!r} → {result.first!r}, twice the same ({result.tokens} tokens)"
    if not result.ok:
        said = f"{result.prompt!r} → {result.first!r}, then {result.second!r}"
    return Check("run", result.ok, f"{said}, on {result.device}")


def _texts(path: Path) -> list[str]:
    try:
        texts = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"--calibration: {path} cannot be read: {e}") from None
    if not texts:
        raise UsageError(f"--calibration: {path} holds no text", "give one text a line")
    return texts


@contextmanager
def _steps() -> Iterator[Steps]:
    """Progress on stderr: a bar on a terminal, plain lines otherwise."""
    try:
        if ERR.is_terminal:
            with _BarSteps() as steps:
                yield steps
        else:
            yield LineSteps(lambda line: ERR.print(f"  {line}"))
    except KeyboardInterrupt:
        raise Stopped("stopped", "the same command goes on from there") from None


class _BarSteps(ProgressLine):
    """The step's line, and a bar below it that disappears when the step ends."""

    def say(self, line: str) -> None:
        ERR.print(f"  {line}")
        self.begin("")

    def progress(self, done: int, total: int) -> None:
        self.show(progress_text(done, total, self.speed), done, total or None)
