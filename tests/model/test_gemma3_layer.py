"""A layer of Gemma 3 in our own arithmetic, against transformers'."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.model.families.gemma3.layer import embedding_factor, layer_inputs

# transformers imports a part of torch that torch itself has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
CONFIG: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "query_pre_attn_scalar": 24,
    "rms_norm_eps": 1e-6,
    "sliding_window": 64,
    "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    },
    "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 1000,
}
LENGTHS = [5, 17, 40]


@pytest.mark.parametrize("index", [0, 5])
def test_it_computes_the_same(index: int) -> None:
    from transformers.models.gemma3.configuration_gemma3 import Gemma3TextConfig
    from transformers.models.gemma3.modeling_gemma3 import (
        Gemma3DecoderLayer,
        Gemma3RotaryEmbedding,
    )

    config = Gemma3TextConfig(**CONFIG)
    config._attn_implementation = "eager"
    theirs = Gemma3DecoderLayer(config, index).eval()
    dice = torch.Generator().manual_seed(index)
    weights = {
        name: torch.randn(value.shape, generator=dice) * 0.2
        for name, value in theirs.state_dict().items()
    }
    theirs.load_state_dict(weights)
    rotary = Gemma3RotaryEmbedding(config)
    states = torch.randn(sum(LENGTHS), 64, generator=dice)
    wanted = []
    with torch.inference_mode():
        for text in states.split(LENGTHS):
            turns = rotary(text, torch.arange(len(text))[None], CONFIG["layer_types"][index])
            later = torch.full((len(text), len(text)), -1e30).triu(1)[None, None]
            wanted.append(theirs(text[None], position_embeddings=turns, attention_mask=later)[0])

    seen = dict(layer_inputs(CONFIG, index, weights, states, LENGTHS))

    assert float((states - torch.cat(wanted)).abs().max()) < 5e-5
    linear = {name for name in weights if name.endswith("_proj.weight")}
    assert {f"{name}.weight" for modules in seen for name in modules} == linear
    for modules, x in seen.items():
        assert all(x.shape == (62, weights[f"{name}.weight"].shape[1]) for name in modules)


def test_the_factor_of_embeddings_is_rounded_as_gemma_does() -> None:
    assert embedding_factor({"hidden_size": 640}) == 25.25
