"""Q4_0, Q5_0 and Q8_0 become compressed-tensors with their codes as they were in the file."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind

from pipeline.model.convert.repack import carries, carry

ROWS, COLUMNS = 24, 256
# compressed_tensors imports a part of torch that torch itself has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")


def unpack(packed: torch.Tensor, bits: int, *shape: int) -> torch.Tensor:
    """compressed-tensors' own reading."""
    from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32

    codes: torch.Tensor = unpack_from_int32(packed, bits, torch.Size(shape))
    return codes


@pytest.fixture(params=[(Kind.Q4_0, 4), (Kind.Q4_0, 8), (Kind.Q5_0, 8), (Kind.Q8_0, 8)], ids=str)
def case(request: pytest.FixtureRequest) -> tuple[Kind, int]:
    return request.param


def stored(kind: Kind) -> np.ndarray:
    weights = np.random.default_rng(0).normal(0, 0.02, (ROWS, COLUMNS)).astype(np.float32)
    return gguf.quants.quantize(weights, kind)


def codes_and_scales(blocks: np.ndarray, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """By llama.cpp's own definition: the dequantized weights over the scale are the codes."""
    size = gguf.GGML_QUANT_SIZES[kind][1]
    scales = blocks.reshape(-1, size)[:, :2].copy().view(np.float16).astype(np.float32)
    weights = gguf.quants.dequantize(blocks, kind).reshape(-1, 32)
    return np.rint(weights / scales).astype(np.int8).reshape(ROWS, COLUMNS), scales


def test_every_code_is_the_one_of_the_file(case: tuple[Kind, int]) -> None:
    kind, bits = case
    blocks = stored(kind)
    packed, _, _ = carry(blocks, kind, bits)

    codes, _ = codes_and_scales(blocks, kind)
    assert packed.dtype == torch.int32
    assert packed.shape == (ROWS, COLUMNS * bits // 32)
    unpacked = unpack(packed, bits, ROWS, COLUMNS)
    assert np.array_equal(unpacked.numpy(), codes)


def test_every_nibble_finds_its_place() -> None:
    """All 256 values of all 16 bytes of a block."""
    blocks = np.random.default_rng(1).integers(0, 256, (4096, 18), dtype=np.uint8)
    blocks[:, :2] = np.frombuffer(np.float16(1).tobytes(), np.uint8)
    packed, _, _ = carry(blocks, Kind.Q4_0, 4)

    unpacked = unpack(packed, 4, 4096, 32)
    assert np.array_equal(unpacked.numpy(), gguf.quants.dequantize(blocks, Kind.Q4_0))


def test_scales_are_rounded_to_bfloat16_and_nothing_else(case: tuple[Kind, int]) -> None:
    kind, bits = case
    blocks = stored(kind)
    _, scales, _ = carry(blocks, kind, bits)

    _, exact = codes_and_scales(blocks, kind)
    assert torch.equal(scales.flatten(), torch.from_numpy(exact.ravel()).bfloat16())


def test_compressed_tensors_reads_the_weights_back(case: tuple[Kind, int]) -> None:
    from compressed_tensors.compressors.pack_quantized import PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    kind, bits = case
    blocks = stored(kind)
    packed, scales, _ = carry(blocks, kind, bits)
    weights = QuantizationArgs(num_bits=bits, strategy="group", group_size=32, symmetric=True)
    state = {
        "weight_packed": packed,
        "weight_scale": scales.float(),
        "weight_shape": torch.tensor([ROWS, COLUMNS]),
    }

    scheme = QuantizationScheme(targets=["Linear"], weights=weights)
    read = PackedQuantizationCompressor.decompress(state, scheme)["weight"]
    exact = torch.from_numpy(gguf.quants.dequantize(blocks, kind))
    # bfloat16 keeps 8 bits of a scale
    assert ((read - exact).abs() <= exact.abs() * 2**-8).all()


def test_the_loss_is_that_of_the_scales(case: tuple[Kind, int]) -> None:
    kind, bits = case
    blocks = stored(kind)
    _, scales, loss = carry(blocks, kind, bits)
    codes, exact = codes_and_scales(blocks, kind)
    original = codes.reshape(-1, 32).astype(np.float64) * exact
    kept = codes.reshape(-1, 32) * scales.float().numpy().reshape(-1, 1).astype(np.float64)

    assert loss.squares == pytest.approx((original**2).sum(), rel=1e-5)
    assert loss.errors == pytest.approx(((original - kept) ** 2).sum(), rel=1e-5)
    assert np.abs(original - kept).max() <= loss.largest


@pytest.mark.parametrize(
    ("kind", "bits", "group"), [(Kind.Q8_0, 4, 32), (Kind.Q4_K, 4, 32), (Kind.Q4_0, 4, 64)]
)
def test_other_types_and_groups_cannot_be_kept(kind: Kind, bits: int, group: int) -> None:
    assert not carries(kind, bits, group)
