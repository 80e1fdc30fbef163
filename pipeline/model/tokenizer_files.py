"""Writing the tokenizer of a GGUF file as ``tokenizer.json`` and ``tokenizer_config.json``."""

from __future__ import annotations

import json
from pathlib import Path


def write_tokenizer(gguf: Path, folder: Path, chat_template: str | None) -> None:
    """Write into ``folder`` the tokenizer that the file ``gguf`` describes.

    transformers reads vocabulary and merges; what it leaves out of a Gemma tokenizer, the
    ``<bos>`` before every text, is put in here as google's own ``tokenizer.json`` has it.
    """
    from transformers import AutoTokenizer  # seconds to import

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    if chat_template:
        tokenizer.chat_template = chat_template
    tokenizer.save_pretrained(folder)

    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    bos = {"SpecialToken": {"id": "<bos>", "type_id": 0}}
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [
            bos,
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "<bos>", "type_id": 1}},
            {"Sequence": {"id": "B", "type_id": 1}},
        ],
        "special_tokens": {
            "<bos>": {"id": "<bos>", "ids": [tokenizer.bos_token_id], "tokens": ["<bos>"]}
        },
    }
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"add_bos_token": True, "add_eos_token": False}
    for local in ("is_local", "local_files_only"):
        config.pop(local, None)
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
