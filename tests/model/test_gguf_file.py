"""A tiny Gemma 3 in a GGUF file: what is read from it, and what is refused."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

from pipeline import UsageError
from pipeline.model.convert.gguf_file import GgufFile
from tests.model.tiny_gguf import (
    FFN,
    HEAD_DIM,
    HEADS,
    HIDDEN,
    LAYERS,
    VOCABULARY,
    Shape,
    vocabulary,
    weights,
    write,
)

VOCABULARY_OF_TURNS = [piece for piece, _ in vocabulary(VOCABULARY)]

LAYER_0 = {
    "self_attn.q_proj": (64, 64),
    "self_attn.k_proj": (32, 64),
    "self_attn.v_proj": (32, 64),
    "self_attn.o_proj": (64, 64),
    "self_attn.q_norm": (32,),
    "self_attn.k_norm": (32,),
    "mlp.gate_proj": (96, 64),
    "mlp.up_proj": (96, 64),
    "mlp.down_proj": (64, 96),
    "input_layernorm": (64,),
    "post_attention_layernorm": (64,),
    "pre_feedforward_layernorm": (64,),
    "post_feedforward_layernorm": (64,),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def read_through(path: Path) -> None:
    file = GgufFile(path)
    file.config()
    list(file.tensors())


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        read_through(path)
    return str(caught.value)


def with_type(source: Path, number: int) -> Path:
    """The file with another type for its first tensor, the embeddings."""
    content = source.read_bytes()
    name = b"token_embd.weight"
    at = content.index(name) + len(name) + 4 + 2 * 8
    source.write_bytes(content[:at] + int(number).to_bytes(4, "little") + content[at + 4 :])
    return source


class TestTensors:
    def test_every_tensor_has_its_hugging_face_name_and_shape(self, path: Path) -> None:
        found = {t.name: t.shape for t in GgufFile(path).tensors()}

        expected = {
            f"model.layers.{layer}.{name}.weight": shape
            for layer in range(LAYERS)
            for name, shape in LAYER_0.items()
        }
        expected["model.embed_tokens.weight"] = (VOCABULARY, HIDDEN)
        expected["model.norm.weight"] = (HIDDEN,)
        assert found == expected

    def test_norms_are_stored_as_one_more_than_they_are(self, path: Path) -> None:
        norms = [t for t in GgufFile(path).tensors() if t.is_norm]
        layernorms = [t for t in GgufFile(path).tensors() if "layernorm" in t.name]

        assert len(norms) == 6 * LAYERS + 1
        assert len(layernorms) == 4 * LAYERS
        for tensor in (*norms, *layernorms):
            assert np.array_equal(tensor.float32(), np.full(tensor.shape, 0.5, np.float32))

    def test_other_weights_come_as_they_are(self, path: Path) -> None:
        [embedding] = [t for t in GgufFile(path).tensors() if "embed" in t.name]

        assert np.array_equal(embedding.float32(), weights((VOCABULARY, HIDDEN)))

    def test_quantized_weights_come_as_what_they_stand_for(self, path: Path) -> None:
        q = next(t for t in GgufFile(path).tensors() if "q_proj" in t.name)
        kind = GGMLQuantizationType.Q4_0
        expected = quants.dequantize(quants.quantize(weights(q.shape), kind), kind)

        assert q.storage_type == "Q4_0"
        assert np.array_equal(q.float32(), expected)

    def test_linear_layers_are_known_from_the_rest(self, path: Path) -> None:
        linear = {t.name.split(".")[-2] for t in GgufFile(path).tensors() if t.is_linear}

        assert linear == {
            "q_proj",
            "k_proj",
            "v_proj",
            "o_proj",
            "gate_proj",
            "up_proj",
            "down_proj",
        }


class TestConfig:
    def test_sizes_come_from_the_file(self, path: Path) -> None:
        config = GgufFile(path).config()

        assert config["model_type"] == "gemma3_text"
        assert {
            k: config[k]
            for k in (
                "vocab_size",
                "hidden_size",
                "intermediate_size",
                "num_hidden_layers",
                "num_attention_heads",
                "num_key_value_heads",
                "head_dim",
                "max_position_embeddings",
                "sliding_window",
                "query_pre_attn_scalar",
            )
        } == {
            "vocab_size": VOCABULARY,
            "hidden_size": HIDDEN,
            "intermediate_size": FFN,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": 1,
            "head_dim": HEAD_DIM,
            "max_position_embeddings": 2048,
            "sliding_window": 512,
            "query_pre_attn_scalar": HEAD_DIM,
        }

    def test_every_sixth_layer_is_global(self, path: Path) -> None:
        kinds = GgufFile(path).config()["layer_types"]

        assert kinds == ["sliding_attention"] * 5 + ["full_attention"]

    def test_a_base_model_ends_with_its_eos(self, path: Path) -> None:
        config = GgufFile(path).config()

        assert (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]) == (2, 1, 0)
        assert GgufFile(path).chat_template is None

    def test_a_chat_model_also_ends_with_its_turn(self, tmp_path: Path) -> None:
        file = GgufFile(write(tmp_path / "chat.gguf", chat_template="{{ messages }}"))

        assert file.chat_template == "{{ messages }}"
        assert file.config()["eos_token_id"] == [1, VOCABULARY_OF_TURNS.index("<end_of_turn>")]

    @pytest.mark.parametrize(("layers", "factor"), [(26, None), (34, 8.0)])
    def test_larger_models_scale_the_rope_of_global_layers(
        self, tmp_path: Path, layers: int, factor: float | None
    ) -> None:
        rope = GgufFile(write(tmp_path / "a.gguf", layers=layers)).config()["rope_parameters"]

        assert rope["full_attention"].get("factor") == factor
        assert rope["full_attention"]["rope_theta"] == 1e6
        assert rope["sliding_attention"] == {"rope_type": "default", "rope_theta": 1e4}

    def test_27b_scales_queries_by_hidden_size_per_head(self, tmp_path: Path) -> None:
        shape = Shape(hidden=336, heads=2, layers=62)
        config = GgufFile(write(tmp_path / "a.gguf", shape=shape, kinds={})).config()

        assert config["query_pre_attn_scalar"] == 168 == 5376 // 32


class TestRefusals:
    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        assert "no such file" in refusal(tmp_path / "absent.gguf")

    @pytest.mark.parametrize("content", [b"", b"GG", b"this is not a GGUF file at all" * 10])
    def test_a_file_that_is_not_gguf(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.gguf").write_bytes(content)

        assert "is not a readable GGUF file" in refusal(tmp_path / "a.gguf")

    @pytest.mark.parametrize("kept", [0.01, 0.05, 0.5, 0.99])
    def test_a_file_that_was_cut_off(self, tmp_path: Path, path: Path, kept: float) -> None:
        content = path.read_bytes()
        (tmp_path / "a.gguf").write_bytes(content[: int(kept * len(content))])

        said = refusal(tmp_path / "a.gguf")
        assert "is not a readable GGUF file" in said
        assert "download it again" in said

    def test_another_architecture(self, tmp_path: Path) -> None:
        said = refusal(write(tmp_path / "a.gguf", architecture="llama"))

        assert "holds a llama model; only gemma3 is supported" in said

    def test_a_field_that_is_missing_is_named(self, tmp_path: Path) -> None:
        said = refusal(write(tmp_path / "a.gguf", without="sliding_window"))

        assert re.search(r"lacks the metadata field gemma3\.attention\.sliding_window", said)

    @pytest.mark.parametrize("name", ["rope_freqs.weight", "blk.0.mystery.weight", "odd"])
    def test_a_tensor_nobody_knows_is_named(self, tmp_path: Path, name: str) -> None:
        assert name in refusal(write(tmp_path / "a.gguf", more=(name,)))

    def test_the_vision_part_of_a_model_is_told_from_the_model(self, tmp_path: Path) -> None:
        said = refusal(write(tmp_path / "mmproj.gguf", architecture="clip"))

        assert "only the vision part (mmproj)" in said
        assert "give the file beside it" in said

    @pytest.mark.parametrize(
        "missing", ["blk.2.ffn_up.weight", "output_norm.weight", "token_embd.weight"]
    )
    def test_a_tensor_that_is_missing_is_named(self, tmp_path: Path, missing: str) -> None:
        said = refusal(write(tmp_path / "a.gguf", without=missing))

        assert "lacks" in said
        assert missing.split(".")[-2].removeprefix("ffn_").removeprefix("output_") in said

    def test_a_tensor_of_another_shape_than_the_metadata_tells(self, tmp_path: Path) -> None:
        source = write(tmp_path / "a.gguf")
        content = source.read_bytes()
        field = b"gemma3.feed_forward_length"
        at = content.index(field) + len(field) + 4
        source.write_bytes(content[:at] + (128).to_bytes(4, "little") + content[at + 4 :])

        said = refusal(source)
        assert (
            "gate_proj.weight has the shape (96, 64), and its metadata asks for (128, 64)" in said
        )

    def test_a_type_that_is_not_read_is_named_with_those_that_are(self, tmp_path: Path) -> None:
        source = write(tmp_path / "a.gguf")
        said = refusal(with_type(source, GGMLQuantizationType.I32))

        assert "has the type I32" in said
        assert "take a Q4_0" in said

    def test_a_type_that_does_not_exist(self, tmp_path: Path) -> None:
        assert "unknown type 999" in refusal(with_type(write(tmp_path / "a.gguf"), 999))

    def test_a_changed_byte_in_the_head_is_an_error_that_is_explained_or_nothing(
        self, tmp_path: Path, path: Path
    ) -> None:
        original = path.read_bytes()
        for place in range(4, 2400, 3):
            content = bytearray(original)
            content[place] ^= 0xFF if place % 2 else 0x09
            (tmp_path / "a.gguf").write_bytes(content)

            with contextlib.suppress(UsageError):
                read_through(tmp_path / "a.gguf")
