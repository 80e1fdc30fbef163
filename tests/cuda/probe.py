"""Asks vLLM's CUDA build, for cards that are not there: a script, to be run in a process of its
own with the environment that ``stub.py`` makes: ``probe.py FOLDER ANSWERS.json CARD...``.

The cards all have the capability of those that the fake driver shows.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.budget.cards.lookup import Card, find_card
from pipeline.budget.engine_arguments import (
    EngineChoice,
    PromptShape,
    choose_settings,
    scoring_arguments,
    setup_of,
)
from pipeline.budget.memory_split import memory_split
from pipeline.budget.weights import Weights, weight_bytes
from pipeline.engine.failure.oom_fallback import EngineLimits, next_rung
from pipeline.job.job import Score
from tests.cuda.checkpoints import SIZES, Checkpoint, write
from tests.cuda.stub import compilations, pretend_triton_has_a_driver

JOBS = tuple(itertools.product((12, 300, 900, 2600), (8, 100, 600), (0.0, 0.8)))
KINDS = tuple(itertools.product(("auto", "fp8"), (True, False)))  # KV cache, hybrid manager
NO_HYBRID = "disable_hybrid_kv_cache_manager"
_NEIGHBOUR = 1.03  # a job with prompts so many times as long
_JSON_SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


@dataclass(frozen=True)
class Case:
    """Settings chosen for a job on a card. ``blocks``: what we predict of the cache."""

    label: dict[str, Any]
    choice: EngineChoice
    kv_bytes: int
    blocks: int


def choose(
    checkpoint: Checkpoint, card: Card, job: tuple[int, int, float], given: dict[str, Any]
) -> EngineChoice:
    prompt, answer, share = job
    shape = PromptShape(prompt, prompt * 2, int(prompt * share))
    geometry = checkpoint.model.geometry
    return choose_settings(geometry, _weights(checkpoint), card, shape, answer, given)


def _weights(checkpoint: Checkpoint) -> Weights:
    vision = checkpoint.model.vision_parameters if checkpoint.vision else 0
    return weight_bytes(checkpoint.model.geometry, "int4", vision=vision)


class Probe:
    """Answers, gathered for one kind of card."""

    def __init__(self, root: Path, cards: list[Card]) -> None:
        self.cards = cards
        self.text = {size: write(root, size, vision=False) for size in SIZES}
        with_vision = [c.model.name for c in self.text.values() if c.model.vision]
        self.whole = {size: write(root, size, vision=True) for size in with_vision}
        self._configs: dict[str, Any] = {}

    def config(self, checkpoint: Checkpoint, arguments: dict[str, Any], **more: Any) -> Any:
        """vLLM's, made by the code that makes it for a worker; the same for the same settings."""
        from pipeline.engine.vllm.engine import engine_config

        key = json.dumps([str(checkpoint.folder), arguments, sorted(more)])
        if key not in self._configs:
            self._configs[key] = engine_config(
                checkpoint.folder, arguments, more.pop("schema", None), skip_tokenizer_init=True
            )
        return self._configs[key]

    def settings(self) -> list[dict[str, Any]]:
        """Every size × card × KV cache × hybrid manager × job, and free choice, and a neighbour
        of each job: what vLLM makes of what we choose."""
        rows = []
        for size, card in itertools.product(SIZES, self.cards):
            checkpoint = self.text[size]
            kinds: list[dict[str, Any]] = [{}]
            kinds += [
                {"kv_cache_dtype": dtype, NO_HYBRID: not hybrid}
                for dtype, hybrid in KINDS
                if card.has_fp8_kv or dtype == "auto"
            ]
            for given, job in itertools.product(kinds, JOBS):
                choice = choose(checkpoint, card, job, given)
                if not choice.requests:
                    continue  # does not fit: nobody would try
                rows.append(self._row(checkpoint, card, job, given, choice))
        return rows

    def _row(
        self,
        checkpoint: Checkpoint,
        card: Card,
        job: tuple[int, int, float],
        given: dict[str, Any],
        choice: EngineChoice,
    ) -> dict[str, Any]:
        prompt, answer, share = job
        neighbour = choose(checkpoint, card, (int(prompt * _NEIGHBOUR) + 1, answer, share), given)
        config = self.config(checkpoint, choice.arguments)
        other = self.config(checkpoint, neighbour.arguments)
        setup = setup_of(choice.arguments, card)
        there = memory_split(checkpoint.model.geometry, _weights(checkpoint), card, setup)
        return {
            "size": checkpoint.model.name,
            "card": card.name,
            "job": job,
            "given": given,
            "arguments": choice.arguments,
            **self._facts(config),
            "hash": config.compute_hash(),
            "neighbours_hash": other.compute_hash(),
            "neighbours_arguments": neighbour.arguments,
            "kv_bytes": there.kv_bytes,
            "blocks": there.num_gpu_blocks,
        }

    def _facts(self, config: Any) -> dict[str, Any]:
        backend = config.attention_config.backend
        return {
            "backend": backend and backend.name,
            "v2": config.use_v2_model_runner,
            "in_flight": config.max_concurrent_batches,
            "autotune": config.kernel_config.enable_flashinfer_autotune,
            "hybrid": not config.scheduler_config.disable_hybrid_kv_cache_manager,
            "cache_dtype": str(config.cache_config.cache_dtype),
            "max_model_len": config.model_config.max_model_len,
            "max_num_seqs": config.scheduler_config.max_num_seqs,
            "chunk": config.scheduler_config.max_num_batched_tokens,
            "prefix_caching": bool(config.cache_config.enable_prefix_caching),
            "async": bool(config.scheduler_config.async_scheduling),
            "executor": str(config.parallel_config.distributed_executor_backend),
            "world": config.parallel_config.world_size,
        }

    def others(self) -> dict[str, Any]:
        """Kinds of jobs beside plain text, and the ladder's last resort."""
        checkpoint, card = self.text["gemma-3-4b"], self.cards[0]
        plain = choose(checkpoint, card, (300, 100, 0.0), {}).arguments
        score = Score(top_k=5)
        scored = choose(checkpoint, card, (300, 1, 0.0), scoring_arguments(score, {})).arguments
        found = {
            "json": self._facts(self.config(checkpoint, plain, schema=_JSON_SCHEMA)),
            "score": self._facts(self.config(checkpoint, scored)),
            "eager": self._facts(self.config(checkpoint, plain | {"enforce_eager": True})),
            "ladder": [],
        }
        arguments = plain
        while rung := next_rung(arguments, EngineLimits(longest=700, fp8=card.has_fp8_kv)):
            arguments = rung.arguments
            found["ladder"].append(
                {"says": rung.says, **self._facts(self.config(checkpoint, arguments))}
            )
        return found

    def models(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Every size, text only and with vision, bf16 and fp8, built without memory: its tensors,
        kernels, attention, and the KV blocks that vLLM makes of every pool in ``rows``."""
        found = []
        for size, dtype in itertools.product(SIZES, ("auto", "fp8")):
            card = next((c for c in self.cards if dtype == "auto" or c.has_fp8_kv), None)
            if card is None:
                continue
            of_it = [r for r in rows if r["size"] == size and (dtype == "fp8") == _is_fp8(r)]
            if not of_it:
                continue
            arguments = of_it[0]["arguments"]
            config = self.config(self.text[size], arguments)
            model = build(config)
            specs = kv_specs(config)
            blocks = self._blocks(self.text[size], of_it, specs, model)
            of_model = described(model, self.text[size], config)
            found.append(of_model | {"dtype": dtype, "blocks": blocks})
            if size in self.whole and dtype == "auto":
                for images in (False, True):
                    given = {"language_model_only": not images}
                    if images:  # the backend that is chosen where prompts may hold images
                        given |= {"limit_mm_per_prompt": {"image": 1}}
                        arguments = arguments | {"attention_backend": "TRITON_ATTN"}
                    config = self.config(self.whole[size], arguments | given)
                    of_model = described(build(config), self.whole[size], config)
                    found.append(of_model | {"dtype": dtype, "blocks": []})
        return found

    def _blocks(
        self, checkpoint: Checkpoint, rows: list[dict[str, Any]], specs: dict[str, Any], model: Any
    ) -> list[list[int]]:
        """[predicted, vLLM's] of each pool."""
        return [
            [row["blocks"], vllm_blocks(config, specs, model, row["kv_bytes"])]
            for row in rows
            for config in [self.config(checkpoint, row["arguments"])]
        ]


def _is_fp8(row: dict[str, Any]) -> bool:
    return row["cache_dtype"].startswith("fp8")


def build(config: Any) -> Any:
    """The model, on PyTorch's device without memory."""
    import torch
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.utils.torch_utils import set_default_torch_dtype

    config.compilation_config.static_forward_context.clear()
    with set_default_torch_dtype(torch.bfloat16), torch.device("meta"):
        return initialize_model(config)


def described(model: Any, checkpoint: Checkpoint, config: Any) -> dict[str, Any]:
    from vllm.model_executor.layers.attention import Attention
    from vllm.model_executor.layers.linear import LinearBase

    layers = [m for m in model.modules() if isinstance(m, Attention)]
    linear = {n: m for n, m in model.named_modules() if isinstance(m, LinearBase)}
    kernels: dict[str, int] = {}
    for name, module in linear.items():
        scheme = getattr(module, "scheme", None)
        kernel = getattr(scheme, "kernel", None)
        kind = type(kernel).__name__ if kernel is not None else type(module.quant_method).__name__
        where = "vision " if "vision" in name else ""
        kernels[where + kind] = kernels.get(where + kind, 0) + 1
    return {
        "size": checkpoint.model.name,
        "vision": checkpoint.vision,
        "images": not config.model_config.multimodal_config.language_model_only
        if config.model_config.multimodal_config
        else False,
        "model": type(model).__name__,
        "backends": sorted({m.attn_backend.get_name() for m in layers}),
        "layers": len(layers),
        "heads": sorted({m.head_size for m in layers}),
        "windows": sorted({m.sliding_window or 0 for m in layers}),
        "kernels": kernels,
        "tensors": {n: [str(p.dtype), list(p.shape)] for n, p in model.named_parameters()},
        "bytes": sum(p.nbytes for p in {id(p): p for p in model.parameters()}.values()),
    }


def kv_specs(config: Any) -> dict[str, Any]:
    """What the layers of the model that was built last with ``config`` say of their cache."""
    from vllm.config import set_current_vllm_config
    from vllm.v1.worker.gpu.attn_utils import get_kv_cache_spec

    with set_current_vllm_config(config):
        return get_kv_cache_spec(config)


def vllm_blocks(config: Any, specs: dict[str, Any], model: Any, pool: int) -> int:
    """Blocks of a pool of so many bytes, by the functions of vLLM's core."""
    from vllm.model_executor.layers.attention import Attention
    from vllm.v1.attention.backends.utils import (
        get_supported_kv_cache_layouts,
        resolve_kv_cache_layout,
    )
    from vllm.v1.core.kv_cache_utils import get_kv_cache_configs

    backends = [m.attn_backend for m in model.modules() if isinstance(m, Attention)]
    layouts = [layout.name for layout in get_supported_kv_cache_layouts(backends)]
    resolve_kv_cache_layout(config, [layouts], specs.values())
    (made,) = get_kv_cache_configs(config, [dict(specs)], [pool])
    return int(made.num_blocks)


def reached_compilers() -> dict[str, Any]:
    """Whether anything of FlashInfer, which compiles, is within reach of this process, on a
    machine that has a compiler; and how often that was called."""
    from vllm import envs
    from vllm.utils.flashinfer import has_flashinfer
    from vllm.v1.sample.ops.topk_topp_sampler import flashinfer_sampler_supported

    sampler = envs.VLLM_USE_FLASHINFER_SAMPLER  # then it would ask the card more
    return {
        "has_flashinfer": has_flashinfer(),
        "sampler": sampler or flashinfer_sampler_supported(),
        "compilations": compilations(),
    }


def two_cards(probe: Probe) -> dict[str, Any]:
    """27B over two cards, as a slot of two runs it."""
    from pipeline.engine.vllm.engine import engine_config

    arguments = choose(
        probe.text["gemma-3-27b"], probe.cards[0], (300, 100, 0.0), {"tensor_parallel_size": 2}
    ).arguments
    folder = probe.text["gemma-3-27b"].folder
    config = engine_config(folder, arguments, skip_tokenizer_init=True)
    return probe._facts(config) | {"arguments": arguments}


def main(root: Path, answers: Path, cards: list[str]) -> None:
    started = time.monotonic()
    pretend_triton_has_a_driver()
    import torch
    import vllm
    from vllm.platforms import current_platform

    probe = Probe(root, [find_card(name) for name in cards])
    begin_distributed(root)
    seconds: dict[str, float] = {}

    def timed(name: str, work: Any) -> Any:
        begun = time.monotonic()
        try:
            return work()
        finally:
            seconds[name] = round(time.monotonic() - begun, 1)

    rows = timed("settings", probe.settings)
    content = {
        "cards": cards,
        "capability": str(current_platform.get_device_capability()),
        "versions": {
            "vllm": vllm.__version__,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
        },
        "settings": rows,
        "others": timed("others", probe.others),
        "models": timed("models", lambda: probe.models(rows)),
        "two_cards": timed("two cards", lambda: two_cards(probe)),
        "compilers": timed("compilers", reached_compilers),
        "configurations": len(probe._configs),
        "seconds": seconds | {"all": round(time.monotonic() - started, 1)},
    }
    answers.write_text(json.dumps(content))


def begin_distributed(root: Path) -> None:
    """vLLM's layers ask which part of a group they are."""
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.distributed import (
        init_distributed_environment,
        initialize_model_parallel,
    )

    with set_current_vllm_config(VllmConfig()):
        init_distributed_environment(1, 0, f"file://{root}/group", 0, "gloo")
        initialize_model_parallel(backend="gloo")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
