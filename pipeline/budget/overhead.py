"""Memory that an engine needs beside weights and KV cache: a model of it. Pure arithmetic.

How vLLM 0.32 sizes the KV cache on CUDA (``v1/worker/gpu_worker.py``): it takes
``gpu_memory_utilization`` of the card, less the weights, less what grows outside PyTorch once
libraries and kernels are loaded, less the activation peak of a trial run with
``max_num_batched_tokens`` tokens and ``max_num_seqs`` samples, less what CUDA graphs are estimated
to take. The CUDA context itself (0.3 to 0.5 GiB), a desktop's windows and the allocator's
fragments must find room in the share that is left over.

What logs of vLLM print, and the constants follow:

- outside PyTorch: 0.20 GiB on an RTX 3090 (vLLM #14447), 0.33 GiB on an RTX 5090 (#14452),
  0.16 GiB on an H100 (#12126);
- activation peak: 0.37 GiB (3090, #14447);
- sines and cosines for every position of the model's context, one table each for global and
  sliding layers (``layers/rotary_embedding/base.py``);
- CUDA graphs on an RTX 3090: 0.1 to 0.17 GiB taken, up to 0.58 GiB estimated (0.21 and later
  subtract the estimate).

The sampler is that of V2 of the model runner, which CUDA uses (``v1/worker/gpu/sample``). For
every sequence it keeps counts of the tokens written, 4 bytes for each of the vocabulary, and a bit
for each in the prompt. Its trial run is greedy and copies no logits: 2 bytes each. A step that
samples copies them in float32 and has a buffer of float32 for each multiprocessor, and one that
scores a prompt has logits for up to 1,024 positions: both are more than the trial run measured,
the former is done before the first job by the warm-up (``warmup.py``), and their room must be in
the share that is left over (``untried_bytes``).

An engine that ran on the card knows better: ``seen`` turns what it reported into a correction.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.budget.cards.lookup import GIB, Card
from pipeline.model.geometry import Geometry

MIB = 1 << 20
_OUTSIDE_PYTORCH = int(0.25 * GIB)
_SEVERAL_CARDS = int(0.35 * GIB)  # NCCL's buffers on each card
_GRAPHS = int(0.2 * GIB)
_GRAPHS_PER_SEQUENCE = MIB
_LARGEST_GRAPH = 512  # vLLM captures graphs up to min(2 × max_num_seqs, 512)
_TRIAL_LOGIT_BYTES = 2  # bf16
_SAMPLED_LOGIT_BYTES = 6  # bf16 and a copy in float32
_BUFFER_BYTES = 4  # float32
_MULTIPROCESSORS = 170  # of an RTX 5090, which has the most: what a card is not known to have less
_COUNT_BYTES = 4 + 1 / 8  # int32 of tokens written, a bit of tokens in the prompt
_SCORED_POSITIONS = 1024  # at once (``prompt_logprob.py``)
_CPU_LOGIT_BYTES = 6  # bf16 and fp32
_IMAGE_ENCODER = int(0.5 * GIB)  # activations of one image of 4,096 patches, and its cache
_LEFT_ALONE = int(1.25 * GIB)  # context 0.4, desktop 0.5, fragments 0.35
_LARGEST_SHARE, _SMALLEST_SHARE = 0.92, 0.5  # the larger: vLLM's own default
_CPU_PROCESS = int(1.6 * GIB)  # Python, PyTorch and vLLM loaded: measured with the 270M model


@dataclass(frozen=True)
class Overhead:
    """Bytes by kind. ``reported``: they are what an engine on such a card last took in all."""

    libraries: int
    activations: int
    graphs: int
    tables: int = 0
    sampler: int = 0
    reported: bool = False

    @property
    def total(self) -> int:
        return self.libraries + self.activations + self.graphs + self.tables + self.sampler


def overhead(
    geometry: Geometry,
    card: Card,
    *,
    chunk: int,
    max_num_seqs: int,
    vision: bool = False,
    eager: bool = False,
    cards: int = 1,
) -> Overhead:
    """What an engine takes beside weights and KV cache.

    ``chunk``: max_num_batched_tokens. ``eager``: no CUDA graphs. ``cards`` share each layer.
    """
    logit_bytes = _CPU_LOGIT_BYTES if card.is_cpu else _TRIAL_LOGIT_BYTES
    activations = activation_bytes(geometry, chunk, max_num_seqs, cards, logit_bytes)
    if vision:
        activations += _IMAGE_ENCODER
    if card.is_cpu:
        return Overhead(_CPU_PROCESS, activations, 0, rotary_bytes(geometry))
    largest = min(2 * max_num_seqs, _LARGEST_GRAPH)
    graphs = 0 if eager else _GRAPHS + largest * _GRAPHS_PER_SEQUENCE
    libraries = _OUTSIDE_PYTORCH + (_SEVERAL_CARDS if cards > 1 else 0)
    sampler = int(max_num_seqs * geometry.vocabulary * _COUNT_BYTES)
    return Overhead(libraries, activations, graphs, rotary_bytes(geometry), sampler)


def activation_bytes(
    geometry: Geometry,
    chunk: int,
    max_num_seqs: int,
    cards: int = 1,
    logit_bytes: int = _TRIAL_LOGIT_BYTES,
) -> int:
    """The peak of the trial run: the widest layer's tensors, or the sampler's, bf16.

    Layer: gate and up projection, their product, and four tensors as wide as the model
    (residual, norm, in, out). Sampler: one row of logits for each sequence.
    """
    layer = chunk * (3 * geometry.ffn // cards + 4 * geometry.hidden) * 2
    sampler = max_num_seqs * geometry.vocabulary * logit_bytes
    return max(layer, sampler)


def untried_bytes(
    geometry: Geometry, *, chunk: int, max_num_seqs: int, cards: int = 1, scored: bool = False
) -> int:
    """What a step on a GPU may take beyond the peak of vLLM's trial run. ``scored``: prompts are.

    vLLM fills its share of the card up to that peak, so this must be free beside it.
    """
    rows = max_num_seqs * _SAMPLED_LOGIT_BYTES
    rows += min(max_num_seqs, _MULTIPROCESSORS) * _BUFFER_BYTES
    if scored:
        rows = max(rows, min(chunk, _SCORED_POSITIONS) * _TRIAL_LOGIT_BYTES)
    return max(
        0, rows * geometry.vocabulary - activation_bytes(geometry, chunk, max_num_seqs, cards)
    )


def rotary_bytes(geometry: Geometry) -> int:
    """The tables of rotary embeddings, bf16."""
    kinds = (geometry.n_global > 0) + (geometry.n_sliding > 0)
    return kinds * geometry.context * geometry.head_dim * 2


def memory_share(card: Card, untried: int = 0) -> float:
    """The ``gpu_memory_utilization`` to ask for: all but what others on the card need, and
    ``untried`` bytes (see ``untried_bytes``).

    vLLM refuses to start when less than its share is free, so at least 1.25 GiB stay free on
    every card: 92 % of 24 GB (vLLM's default), 84 % of 8 GB. On a CPU: of the memory that is
    available now.
    """
    if card.is_cpu:
        return 1.0
    share = int(100 * (1 - (_LEFT_ALONE + untried) / card.vram_bytes)) / 100
    return min(_LARGEST_SHARE, max(_SMALLEST_SHARE, share))


def seen(card: Card, share: float, weights_bytes: int, kv_bytes: int) -> int | None:
    """The overhead that an engine on ``card`` reported, bytes: what of its share of the card was
    neither weights nor KV cache. None where that makes no sense (its sizes were set by hand)."""
    rest = int(card.vram_bytes * share) - weights_bytes - kv_bytes
    return rest if 0 < rest < card.vram_bytes // 2 and share > 0 else None
