"""int4 weights unpacked to bf16: the same numbers, and nearly the same answers.

Run as a script, this file is the probe: in its own process it loads the real model twice, from
int4 and unpacked, has both label tweets, and writes down what they said.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.budget.engine_arguments import PromptShape, cpu_arguments
from pipeline.budget.weights import weight_bytes
from pipeline.engine.gpu.usable import offer
from pipeline.engine.machine.host import available_memory, cpu_environment
from pipeline.engine.vllm.engine import environment
from pipeline.job.sampling import Sampling
from pipeline.model.folder import ModelFolder
from pipeline.model.tokenizer import Tokenizer
from pipeline.rows.request import Request

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(bool(offer().gpus), reason="for engines on a CPU"),
]

_WAYS = ("bf16", "int4", "bf16")  # one after the other in one process
_CHOICES = (" negative", " positive")
_MOODS = ("I love", "thanks for", "what a great", "no more of", "so tired of", "never again")
_THINGS = ("this flight", "the crew", "your lounge", "my lost bag", "the delay", "a free seat")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, launcher, model: ModelFolder) -> Any:
    folder = tmp_path_factory.mktemp("unpacked")
    variables = cpu_environment(0, 1) | environment(gpu=False, eager=True)
    finished = launcher.python(Path(__file__), model.path, "found.json", cwd=folder, **variables)
    assert finished.code == 0, finished.err
    return json.loads((folder / "found.json").read_text())


@pytest.mark.parametrize("case", ["symmetric", "with zero points", "one group", "many rows"])
def test_a_weight_is_its_code_times_its_groups_scale_in_bf16(
    case: str, found: dict[str, Any]
) -> None:
    assert found["exact"][case] is True


def test_norms_differ_by_bf16s_rounding_alone(found: dict[str, Any]) -> None:
    """Of what vLLM's own give in float32: by two places of bf16's eight bits at most, and by three
    where the kernel cuts off what it should round."""
    assert found["norms"]["largest"] <= 2**-5
    assert found["norms"]["mean"] <= 2**-7
    assert found["norms"]["residual"] == 0  # an error here would add up from layer to layer


def test_the_engines_say_what_they_compute_in(found: dict[str, Any]) -> None:
    assert [way["computed_in"] for way in found["ways"]] == ["bf16", "", "bf16"]


def test_fit_knows_how_much_memory_the_weights_take(
    found: dict[str, Any], model: ModelFolder
) -> None:
    weights = weight_bytes(model.geometry, "int4")
    expected = {"bf16": weights.unpacked(model.geometry).text_bytes, "int4": weights.text_bytes}
    for name, way in zip(_WAYS, found["ways"], strict=True):
        assert way["weights_bytes"] == pytest.approx(expected[name], rel=0.01)


def test_both_ways_give_the_same_labels_with_nearly_the_same_probabilities(
    found: dict[str, Any],
) -> None:
    unpacked, packed, again = (way["logprobs"] for way in found["ways"])
    assert unpacked == again  # what was loaded in between left nothing behind
    same = [_best(a) == _best(b) for a, b in zip(unpacked, packed, strict=True)]
    assert sum(same) >= 0.95 * len(same)
    apart = [
        abs(x - y) for a, b in zip(unpacked, packed, strict=True) for x, y in zip(a, b, strict=True)
    ]
    # of bf16's own rounding, which adds up to more or less by the weights (seen: 0.03 and 0.06)
    assert sum(apart) / len(apart) < 0.1
    assert max(apart) < 0.4


def _best(logprobs: list[float]) -> int:
    return logprobs.index(max(logprobs))


def _exact() -> dict[str, bool]:
    """Whether ``unpacked`` gives what the definition does, taken literally, a weight at a time."""
    import torch

    from pipeline.engine.vllm.unpacked import unpacked
    from pipeline.model.convert.quantize import CodedTensor

    def case(rows: int, columns: int, group: int, zeros: bool) -> bool:
        draw = torch.Generator().manual_seed(5)
        codes = torch.randint(-8, 8, (rows, columns), generator=draw).to(torch.int8)
        scales = torch.rand(rows, columns // group, generator=draw).bfloat16() / 64
        points = torch.randint(0, 16, scales.shape, generator=draw, dtype=torch.int32)
        packed = CodedTensor(codes, scales).packed()
        made = unpacked(packed, scales, points if zeros else None)
        wide = points.repeat_interleave(group, 1) - 8 if zeros else torch.tensor(0)
        product = (codes.double() - wide) * scales.double().repeat_interleave(group, 1)
        return bool(torch.equal(made, product.to(torch.bfloat16)))

    return {
        "symmetric": case(64, 128, 32, False),
        "with zero points": case(64, 128, 32, True),
        "one group": case(32, 96, 96, False),
        "many rows": case(2500, 64, 32, False),
    }


def _norms() -> dict[str, float]:
    """How far the fused norm is from vLLM's own, relative to its values."""
    import torch
    from vllm.config import VllmConfig, set_current_vllm_config

    from pipeline.engine.vllm.norm import FusedGemmaRMSNorm

    torch.manual_seed(5)
    with set_current_vllm_config(VllmConfig()):
        norm = FusedGemmaRMSNorm(640)
    norm.requires_grad_(False)._fused = True
    norm.weight.data = torch.randn(640).mul(2).bfloat16()
    x, residual = (torch.randn(50, 640).mul(3).bfloat16() for _ in range(2))
    right = [norm.forward_native(x), *norm.forward_native(x, residual)]
    made = [norm.forward_cpu(x), *norm.forward_cpu(x.clone(), residual.clone())]
    apart = [
        (a.float() - b.float()).abs() / b.float().abs().clamp_min(1e-2)
        for a, b in zip(made, right, strict=True)
    ]
    return {
        "largest": max(float(a.max()) for a in apart[:2]),
        "mean": max(float(a.mean()) for a in apart[:2]),
        "residual": float(apart[2].max()),
    }


def _way(model: ModelFolder, compute: str) -> dict[str, Any]:
    from pipeline.engine.vllm.engine import VllmEngine

    given = {"kv_cache_memory_bytes": 300 << 20, "max_model_len": 512, "max_num_seqs": 16}
    shape = PromptShape(mean=20, longest=40, shared_prefix=1)
    arguments = cpu_arguments(model.geometry, given, shape, available_memory())
    engine = VllmEngine(model, arguments | {"cpu_compute": compute})
    tokenizer = Tokenizer(model.path)
    texts = [f"{mood} {thing}" for mood in _MOODS for thing in _THINGS]
    prompts = [f"Tweet: {text}\nSentiment (negative or positive):" for text in texts]
    choices = tuple(tokenizer.encode_plain(choice)[0] for choice in _CHOICES)
    for number, ids in enumerate(tokenizer.encode_batch(prompts)):
        engine.add(Request(number, list(ids), Sampling(), logprob_ids=choices))
    done: dict[int, list[float]] = {}
    while len(done) < len(prompts):
        for c in engine.step():
            done[c.request_id] = [c.logprobs[choice] for choice in choices]
    engine.close()
    return {
        "computed_in": engine.facts.computed_in,
        "weights_bytes": engine.facts.weights_bytes,
        "logprobs": [done[number] for number in range(len(prompts))],
    }


def _main(model_path: str, target: str) -> None:
    model = ModelFolder("gemma-3-270m", Path(model_path))
    content = {
        "exact": _exact(),
        "norms": _norms(),
        "ways": [_way(model, compute) for compute in _WAYS],
    }
    Path(target).write_text(json.dumps(content))


if __name__ == "__main__":
    _main(*sys.argv[1:])
