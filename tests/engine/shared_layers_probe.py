"""Asks vLLM which tensors one of several cards has: a script, for a process of its own.

``shared_layers_probe.py ANSWERS.json CONFIG.json CARDS …``, the configuration that of an int4
checkpoint. Models are built on the meta device: nothing is loaded.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from pipeline.model.catalogue import MODELS
from pipeline.model.geometry import Geometry


def text_config(plain: dict[str, Any], geometry: Geometry) -> dict[str, Any]:
    """``plain`` for another size."""
    kinds = ["full_attention"] * geometry.n_global + ["sliding_attention"] * geometry.n_sliding
    return plain | {
        "vocab_size": geometry.vocabulary,
        "hidden_size": geometry.hidden,
        "intermediate_size": geometry.ffn,
        "num_hidden_layers": geometry.layers,
        "num_attention_heads": geometry.query_heads,
        "num_key_value_heads": geometry.kv_heads,
        "head_dim": geometry.head_dim,
        "sliding_window": geometry.sliding_window,
        "max_position_embeddings": geometry.context,
        "layer_types": kinds,
    }


def parameter_bytes(folder: Path) -> int:
    """Of the model in ``folder``, on the first card."""
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.utils.torch_utils import set_default_torch_dtype

    config = EngineArgs(
        model=str(folder), skip_tokenizer_init=True, enforce_eager=True, max_model_len=1024
    ).create_engine_config()
    with (
        set_current_vllm_config(config),
        set_default_torch_dtype(torch.bfloat16),
        torch.device("meta"),
    ):
        model = initialize_model(config)
    parameters = dict(model.named_parameters())
    return sum(p.nbytes for name, p in parameters.items() if not name.startswith("lm_head"))


def main(answers: Path, source: Path, numbers: list[int]) -> None:
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.distributed import parallel_state

    with set_current_vllm_config(VllmConfig()):
        group = f"file://{answers.parent}/group"
        parallel_state.init_distributed_environment(1, 0, group, 0, "gloo")
        parallel_state.initialize_model_parallel(backend="gloo")
    plain = json.loads(source.read_text())
    found: dict[int, dict[str, int]] = {cards: {} for cards in numbers}
    for cards in numbers:
        # as the first of so many would see it: to build a model nobody has to be asked
        parallel_state.get_tp_group().world_size = cards
        for name, model in MODELS.items():
            if model.geometry.query_heads % cards == 0:
                folder = answers.parent / f"{name}-{cards}"
                folder.mkdir()
                (folder / "config.json").write_text(json.dumps(text_config(plain, model.geometry)))
                found[cards][name] = parameter_bytes(folder)
    answers.write_text(json.dumps(found))


if __name__ == "__main__":
    os.environ["VLLM_LOGGING_LEVEL"] = "WARNING"
    main(Path(sys.argv[1]), Path(sys.argv[2]), [int(cards) for cards in sys.argv[3:]])
