"""Models that would run code, lie about their size, or are none."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.inputs import Hostile, Prepare, both, fifo, file, gone, link
from tests.support.samples import CONFIG_270M

_MODEL = ("job.yaml, line 2", "model")


def _config(**changes: object) -> Prepare:
    return file("model/config.json", json.dumps(CONFIG_270M | changes))


def _tokenizer(change: Callable[[dict[str, Any]], None]) -> Prepare:
    def write(place: Path) -> None:
        path = place / "model/tokenizer.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return write


def _weights(head: object) -> Prepare:
    text = json.dumps(head).encode()
    return file("model/model.safetensors", len(text).to_bytes(8, "little") + text + b"\0" * 16)


def _entry(start: int, end: int, *shape: int) -> dict[str, object]:
    return {"w": {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}}


def _refused(prepare: Prepare, *says: str) -> Hostile:
    return Hostile((*_MODEL, *says), prepare=prepare)


def _chat(template: str) -> Hostile:
    """A chat template under which both rows fail."""
    return Hostile(
        code=3,
        lines={"prompt": "messages: [{role: user, content: '{text}'}]"},
        prepare=file("model/chat_template.jinja", template),
        errors=("InvalidRow",) * 2,
    )


_FOLDERS = {
    "a model of pickles": _refused(
        both(
            gone("model/model.safetensors"),
            file("model/pytorch_model.bin", b"\x80\x04cos\nsystem\n"),
        ),
        "holds no .safetensors weights",
    ),
    "a config that names code of its own": _refused(
        _config(auto_map={"AutoConfig": "evil.EvilConfig"}), "auto_map", "never"
    ),
    "a tokenizer that names code of its own": _refused(
        file("model/tokenizer_config.json", '{"auto_map": {"AutoTokenizer": ["evil.Evil", null]}}'),
        "auto_map",
    ),
    "a config a hundred thousand deep": _refused(
        file("model/config.json", '{"a":' * 100_000 + "1" + "}" * 100_000), "config.json"
    ),
    "a config that is a list": _refused(file("model/config.json", "[]"), "config.json"),
    "a config of seventy megabytes": _refused(
        file("model/config.json", b" " * (70 << 20)), "larger than"
    ),
    "a config that is a pipe": _refused(fifo("model/config.json"), "config.json"),
    "a config that is a device": _refused(link("model/config.json", "/dev/zero"), "config.json"),
    "a config without end of a link": _refused(
        link("model/config.json", "config.json"), "config.json"
    ),
    "a config of another model": _refused(_config(model_type="llama"), "llama"),
    "a model of no layers": _refused(_config(num_hidden_layers=0, layer_types=[]), "impossible"),
    "a model of fewer than no layers": _refused(_config(num_hidden_layers=-1), "impossible"),
    "a model of infinite width": _refused(_config(hidden_size=float("inf")), "config.json"),
    "a model of a pattern of none": _refused(
        _config(layer_types=None, sliding_window_pattern=0), "config.json"
    ),
    "a model of more heads than can be counted": _refused(_config(head_dim=2**70), "impossible"),
    "weights that are shorter than their head": _refused(
        file("model/model.safetensors", (2**62).to_bytes(8, "little")), "safetensors"
    ),
    "weights of seven bytes": _refused(file("model/model.safetensors", b"1234567"), "safetensors"),
    "weights whose head is no JSON": _refused(
        file("model/model.safetensors", (8).to_bytes(8, "little") + b"\xff" * 16), "safetensors"
    ),
    "weights whose head is a hundred thousand deep": _refused(
        file(
            "model/model.safetensors", (100_000).to_bytes(8, "little") + b"[" * 100_000 + b"\0" * 8
        ),
        "safetensors",
    ),
    "weights that lie behind the end": _refused(_weights(_entry(0, 2**40, 2**38)), "cut off"),
    "weights that lie before the beginning": _refused(_weights(_entry(-16, 16, 8)), "safetensors"),
    "weights of another size than their shape": _refused(_weights(_entry(0, 16, 2**20)), "w has"),
    "weights that are a pipe": _refused(fifo("model/model.safetensors"), "safetensors"),
    "a tokenizer that is no JSON": _refused(file("model/tokenizer.json", "{"), "tokenizer"),
    "a tokenizer a hundred thousand deep": _refused(
        file("model/tokenizer.json", '{"normalizer":' * 100_000), "tokenizer"
    ),
    "a tokenizer of rules a hundred thousand deep": _refused(
        file(
            "model/tokenizer.json",
            '{"normalizer":'
            + '{"type":"Sequence","normalizers":[' * 10_000
            + "]}" * 10_000
            + ',"model":{"type":"BPE","vocab":{},"merges":[]}}',
        ),
        "tokenizer",
    ),
    "a tokenizer whose vocabulary is of numbers": _refused(
        _tokenizer(lambda t: t["model"].update(vocab={"a": -1})), "tokenizer"
    ),
    "a tokenizer that is a pipe": _refused(fifo("model/tokenizer.json"), "tokenizer"),
    "a chat template that does not end": Hostile(
        ("model", "chat template"), prepare=file("model/chat_template.jinja", "{% for %}")
    ),
    "a chat template that is a folder": Hostile(
        code=0, prepare=lambda place: (place / "model/chat_template.jinja").mkdir()
    ),
    "a chat template of loops in loops": _chat(
        "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}"
    ),
    "a chat template that reads Python": _chat(
        "{{ messages.__class__.__base__.__subclasses__() }}"
    ),
    "a chat template that doubles a text": _chat(
        "{% set ns = namespace(x='x') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}"
        "{% endfor %}{{ ns.x }}"
    ),
    "a tokenizer that pads to a billion tokens": Hostile(
        code=0,
        prepare=_tokenizer(
            lambda t: t.update(
                padding={
                    "strategy": {"Fixed": 10**9},
                    "direction": "Right",
                    "pad_to_multiple_of": None,
                    "pad_id": 0,
                    "pad_type_id": 0,
                    "pad_token": "<pad>",
                }
            )
        ),
    ),
    "a pickle beside the weights is never opened": Hostile(
        code=0, prepare=fifo("model/pytorch_model.bin")
    ),
    "a program beside the weights is never run": Hostile(
        code=0, prepare=file("model/configuration_gemma3.py", "raise SystemExit(99)\n")
    ),
}


def _gguf(*parts: bytes, tensors: int = 0, fields: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, fields) + b"".join(parts)


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _tensor(name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return _text(name) + sizes + struct.pack("<IQ", kind, offset)


_STRING, _ARRAY, _UINT32 = 8, 9, 4
_NAME = _text("general.architecture") + struct.pack("<I", _STRING) + _text("gemma3")
_LISTS = _text("x") + struct.pack("<I", _ARRAY) + struct.pack("<IQ", _ARRAY, 1) * 20_000

_GGUF = {
    "of no bytes": b"",
    "of four bytes": b"GGUF",
    "of another kind": b"\x80\x04cos\nsystem\n" * 100,
    "of a version to come": _gguf(version=99),
    "in another byte order": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "that claims more fields than can be counted": _gguf(fields=2**63),
    "that claims more tensors than can be counted": _gguf(tensors=2**63),
    "with a name longer than the file": _gguf(struct.pack("<Q", 2**62), fields=1),
    "with a name that is not UTF-8": _gguf(struct.pack("<Q", 2), b"\xff\xfe", fields=1),
    "with a list longer than the file": _gguf(
        _text("x") + struct.pack("<IIQ", _ARRAY, _UINT32, 2**23), fields=1
    ),
    "with lists in lists without end": _gguf(_LISTS, fields=1),
    "with a value of an unknown type": _gguf(_text("x") + struct.pack("<I", 77), fields=1),
    "with an alignment of nothing": _gguf(
        _NAME + _text("general.alignment") + struct.pack("<II", _UINT32, 0), fields=2
    ),
    "with a tensor larger than the world": _gguf(
        _NAME, _tensor("token_embd.weight", (2**63, 2**63)), tensors=1, fields=1
    ),
    "with a tensor of nine dimensions": _gguf(
        _NAME, _tensor("token_embd.weight", (1,) * 9), tensors=1, fields=1
    ),
    "with a tensor of nothing": _gguf(
        _NAME, _tensor("token_embd.weight", (0, 0)), tensors=1, fields=1
    ),
    "with a tensor of an unknown type": _gguf(
        _NAME, _tensor("token_embd.weight", (8,), kind=4), tensors=1, fields=1
    ),
    "with a tensor behind the end": _gguf(
        _NAME, _tensor("token_embd.weight", (8,), offset=2**62), tensors=1, fields=1
    ),
    "with a tensor twice": _gguf(
        _NAME, _tensor("a", (8,)), _tensor("a", (8,)), b"\0" * 64, tensors=2, fields=1
    ),
    "with a tensor whose name is a path": _gguf(
        _NAME, _tensor("../../../etc/passwd", (8,)), b"\0" * 64, tensors=1, fields=1
    ),
    "of another architecture": _gguf(
        _text("general.architecture") + struct.pack("<I", _STRING) + _text("\x1b[2J"), fields=1
    ),
    "without an architecture": _gguf(),
}


@pytest.mark.parametrize("name", _FOLDERS)
def test_a_hostile_model_folder_is_refused_or_harmless(name: str, face) -> None:
    face(_FOLDERS[name])


@pytest.mark.parametrize("name", _GGUF)
def test_a_hostile_gguf_file_is_refused(name: str, face) -> None:
    face(
        Hostile(
            ("evil.gguf",),
            lines={"model": "model: ./evil.gguf"},
            prepare=file("evil.gguf", _GGUF[name]),
        )
    )


def test_a_gguf_file_that_is_a_pipe_is_refused(face) -> None:
    face(Hostile(_MODEL, lines={"model": "model: ./evil.gguf"}, prepare=fifo("evil.gguf")))


def test_a_hostile_gguf_file_is_not_converted(face) -> None:
    content = _GGUF["with lists in lists without end"]
    command = ("model", "convert", "evil.gguf", "new")
    face(Hostile(("evil.gguf",), command=command, prepare=file("evil.gguf", content)))
