"""Checks whether a checkpoint folder is as it should be, without running the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pipeline.errors import UsageError
from pipeline.model.folder import PROVENANCE_FILE, ModelFolder, hashes_of, read_config
from pipeline.model.store.steps import Steps
from pipeline.model.tensors import Packing, differences, read_tensors
from pipeline.model.tokenizer import Tokenizer
from pipeline.printable import first_line

_SHOWN = 3
# what tokenizers get wrong: spaces at the ends and in runs, scripts, emoji, special tokens as text
_TEXTS = (
    "Hello, world!",
    "  two spaces before, three   within, one after ",
    "line\n\nbreaks\tand tabs\r\n",
    "def f(x):\n    return x ** 2  # code",
    "Grüße, Žluťoučký kůň, Ελλάδα, Москва",
    "日本語のテキスト と 中文 한국어",
    "العربية עברית हिन्दी ไทย",
    "🙂👩‍👩‍👧‍👦🇪🇺 emoji",
    "1234567890 3.14159 1e-9",
)


@dataclass(frozen=True)
class Check:
    """One check. ``detail``: what was found, and what is wrong if it is not ``ok``."""

    name: str
    ok: bool
    detail: str


def verify(folder: ModelFolder, steps: Steps) -> Iterator[Check]:
    """Yields each check when it is done: hashes, config, tensors, tokenizer."""
    checks: dict[str, Callable[[ModelFolder, Steps], str]] = {
        "hashes": _hashes,
        "config": _config,
        "tensors": _tensors,
        "tokenizer": _tokenizer,
    }
    for name, check in checks.items():
        try:
            found = Check(name, True, check(folder, steps))
        except UsageError as e:
            found = Check(name, False, e.message.removeprefix("model: "))
        yield found


# Each says what it found. Raises UsageError with what is wrong.


def _hashes(folder: ModelFolder, steps: Steps) -> str:
    known = dict(folder.provenance.get("files") or {})
    if not known and "weights_sha256" in folder.provenance and len(folder.weight_files) == 1:
        known = {folder.weight_files[0].name: folder.provenance["weights_sha256"]}
    if not known:
        return f"not checked: without {PROVENANCE_FILE} none are known"
    there = {name: folder.path / name for name in known if (folder.path / name).exists()}
    wrong = [f"{name} is missing" for name in known if name not in there]
    steps.say("hashing the files")
    found = hashes_of(there.values(), steps.progress)
    wrong += [f"{n} is not the file that was stored" for n, h in found.items() if h != known[n]]
    _refuse(wrong)
    return f"{len(known)} files are as they were stored"


def _config(folder: ModelFolder, steps: Steps) -> str:
    steps.say("reading the config with transformers")
    geometry = folder.geometry
    try:
        loaded = folder.family.read_config(read_config(folder.path))
    except Exception as e:  # transformers' checks may raise anything
        raise UsageError(f"transformers refuses it: {first_line(e)}") from None
    _refuse(
        f"{key} is {found!r} instead of {wanted!r}"
        for key, found, wanted in folder.family.alike(loaded, geometry)
        if found != wanted
    )
    return (
        f"{type(loaded).__name__}, {geometry.layers} layers ({geometry.n_global} global), "
        f"context {geometry.context} tokens"
    )


def _tensors(folder: ModelFolder, steps: Steps) -> str:
    steps.say("comparing the tensors with the config")
    try:
        tensors = read_tensors(folder.path)
    except (ValueError, OSError) as e:
        raise UsageError(str(e)) from None
    if not tensors:
        raise UsageError(f"{folder.path} holds no .safetensors weights")
    words = f"{len(tensors)} tensors in {len(folder.weight_files)} files, {folder.quantization}"
    try:
        packing = Packing.of(read_config(folder.path))
    except (ValueError, KeyError, TypeError) as e:
        return f"{words}: shapes not checked, {e}"
    _refuse(differences(tensors, folder.family, folder.geometry, packing))
    return words


def _tokenizer(folder: ModelFolder, steps: Steps) -> str:
    steps.say("trying the tokenizer")
    tokenizer = Tokenizer(folder.path)
    _refuse(_tokenizer_faults(tokenizer, folder))
    chat = "with" if tokenizer.has_chat_template else "without"
    return f"{tokenizer.vocabulary} tokens, {chat} a chat template"


def _tokenizer_faults(tokenizer: Tokenizer, folder: ModelFolder) -> Iterator[str]:
    rows = folder.geometry.vocabulary
    if tokenizer.vocabulary > rows:
        yield f"{tokenizer.vocabulary} tokens, but the model has only {rows} embeddings"
    if not tokenizer.bos:
        yield "tokenizer_config.json names no <bos>, without which the model talks nonsense"
        return
    bos = tokenizer.ids.get(tokenizer.bos)
    if bos is None or bos != read_config(folder.path).get("bos_token_id", bos):
        yield f"{tokenizer.bos} is the token {bos}, not the bos_token_id of the config"
        return
    texts = [*_TEXTS]
    if tokenizer.has_chat_template:
        texts.append(tokenizer.chat_text([{"role": "user", "content": "Hello"}]))
    for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
        if ids[0] != bos or ids.count(bos) != 1:
            yield f"{text!r} does not get <bos> exactly once"
    for text in _TEXTS:
        back = tokenizer.decode(tokenizer.encode_plain(text))
        if back != text:
            yield f"{text!r} comes back as {back!r}"


def _refuse(faults: Iterable[str]) -> None:
    """Raise UsageError if there are any."""
    wrong = list(faults)
    if wrong:
        more = len(wrong) - _SHOWN
        raise UsageError("; ".join(wrong[:_SHOWN]) + (f"; and {more} more" if more > 0 else ""))
