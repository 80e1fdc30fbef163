"""Each size's pattern of layers, heads and RoPE, converted, computes what its weights say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import load_file

from pipeline.model.convert.convert import convert
from pipeline.model.convert.gguf_file import GgufFile
from pipeline.model.families.gemma3.gguf_config import text_config
from pipeline.model.families.gemma3.shapes import tensor_shapes
from pipeline.model.geometry import Geometry
from tests.model.tiny_gguf import Shape, write

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
# structure as in the real model: layers, heads, head dim over the hidden size; the rest small
SIZES = {
    "270m": Shape(hidden=64, ffn=96, heads=4, kv_heads=1, head_dim=32, layers=18, window=16),
    "1b": Shape(hidden=96, ffn=64, heads=4, kv_heads=1, head_dim=32, layers=26, window=16),
    "4b": Shape(64, 96, heads=8, kv_heads=4, head_dim=32, layers=34, window=32, factor=8.0),
    "12b": Shape(64, 96, heads=16, kv_heads=8, head_dim=32, layers=48, window=32, factor=8.0),
    "27b": Shape(128, 64, heads=32, kv_heads=16, head_dim=16, layers=62, window=32, factor=8.0),
}


@pytest.mark.parametrize("size", SIZES)
def test_transformers_computes_the_same_as_from_the_weights_of_the_file(
    tmp_path: Path, size: str
) -> None:
    """The reference takes google's own numbers from transformers' defaults, not from our config."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    shape = SIZES[size]
    source = write(tmp_path / "a.gguf", shape=shape, norm=1.25, kinds={"attn_q": Kind.Q8_0})
    folder = convert(source, tmp_path / "out", precision="bf16").folder

    rope = {"rope_type": "default", "rope_theta": 1_000_000.0}
    if shape.factor:
        rope = {"rope_type": "linear", "rope_theta": 1_000_000.0, "factor": shape.factor}
    config = Gemma3TextConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.ffn,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        query_pre_attn_scalar=4 if size == "27b" else shape.head_dim,
        sliding_window=shape.window,
        max_position_embeddings=2048,
        rope_parameters={
            "full_attention": rope,
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        },
    )
    reference = Gemma3ForCausalLM(config).eval()
    state = {t.name: torch.from_numpy(t.float32()).bfloat16() for t in GgufFile(source).tensors()}
    reference.load_state_dict(state | {"lm_head.weight": state["model.embed_tokens.weight"]})
    loaded = Gemma3ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    ids = torch.randint(0, shape.vocabulary, (2, 80), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(loaded(ids).logits, reference.float()(ids).logits)


@pytest.mark.parametrize(
    ("layers", "hidden", "heads", "head_dim", "scalar", "factor"),
    [
        (18, 640, 4, 256, 256, None),
        (26, 1152, 4, 256, 256, None),
        (34, 2560, 8, 256, 256, 8.0),
        (48, 3840, 16, 256, 256, 8.0),
        (62, 5376, 32, 128, 168, 8.0),
    ],
)
def test_every_size_has_its_numbers_even_if_the_metadata_leaves_them_out(
    layers: int, hidden: int, heads: int, head_dim: int, scalar: int, factor: float | None
) -> None:
    """After transformers' Gemma 3 conversion table."""
    fields = {
        "gemma3.block_count": layers,
        "gemma3.embedding_length": hidden,
        "gemma3.attention.head_count": heads,
        "gemma3.attention.head_count_kv": 1,
        "gemma3.attention.key_length": head_dim,
        "gemma3.attention.sliding_window": 1024,
        "gemma3.feed_forward_length": 64,
        "gemma3.context_length": 131_072,
        "gemma3.rope.freq_base": 1e6,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.tokens": [],
        "tokenizer.chat_template": "x",
    }
    shapes = tensor_shapes(
        Geometry(1, layers - 1, hidden, 64, heads, 1, head_dim, 512, 262_144, 1024)
    )
    config = text_config(Path("a.gguf"), fields, shapes)

    assert config["query_pre_attn_scalar"] == scalar
    assert config["rope_parameters"]["full_attention"].get("factor") == factor
    assert config["layer_types"].count("full_attention") == layers // 6
    assert config["eos_token_id"] == [1, 106]
    assert config["tie_word_embeddings"] is True
    assert json.dumps(config)


def test_packed_weights_are_the_ones_that_the_file_stands_for(tmp_path: Path) -> None:
    """A Q4_0 file through compressed-tensors' own reader."""
    linear = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    source = write(tmp_path / "a.gguf", layers=1, kinds=dict.fromkeys(linear, Kind.Q4_0))
    folder = convert(source, tmp_path / "out", calibration=()).folder
    state = load_file(folder / "model.safetensors")
    from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32

    for tensor in GgufFile(source).tensors():
        if tensor.is_linear:
            codes = unpack_from_int32(state[f"{tensor.name}_packed"], 4, torch.Size(tensor.shape))
            scales = state[f"{tensor.name}_scale"].float().repeat_interleave(32, 1)
            exact = torch.from_numpy(tensor.float32())
            assert ((codes * scales - exact).abs() <= exact.abs() * 2**-8).all()
