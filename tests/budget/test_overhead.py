"""Memory beside weights and KV cache."""

from __future__ import annotations

import pytest

from pipeline.budget.cards.lookup import CARDS, GIB
from pipeline.budget.overhead import (
    activation_bytes,
    memory_share,
    overhead,
    seen,
    untried_bytes,
)
from pipeline.model.catalogue import MODELS

OF_27B = MODELS["gemma-3-27b"].geometry
RTX_3090 = CARDS["rtx3090"]


def test_the_overhead_of_a_3090_is_what_logs_print() -> None:
    """0.2 GiB outside PyTorch, 0.3 to 0.6 of activations, 0.1 to 0.6 of graphs."""
    taken = overhead(OF_27B, RTX_3090, chunk=2048, max_num_seqs=16)
    assert 0.6 * GIB < taken.total < 1.4 * GIB
    parts = (taken.libraries, taken.activations, taken.graphs, taken.tables, taken.sampler)
    assert taken.total == sum(parts)


def test_activations_are_the_wider_of_a_layer_and_the_sampler() -> None:
    layers, samples = (activation_bytes(OF_27B, *s) for s in ((8192, 1), (16, 256)))
    assert layers == 8192 * (3 * 21_504 + 4 * 5376) * 2
    assert samples == 256 * 262_144 * 2


def test_the_sampler_of_256_sequences_takes_what_v2s_tensors_do() -> None:
    """Counts of tokens written (int32) and a bit of tokens in the prompt, for the vocabulary; the
    trial run is greedy: half a GiB in all with its activations, not one and a half."""
    taken = overhead(OF_27B, RTX_3090, chunk=2048, max_num_seqs=256)
    assert taken.sampler == 256 * 262_144 * 33 / 8
    assert 0.4 * GIB < taken.sampler + taken.activations < 0.6 * GIB


def test_what_the_trial_run_does_not_see_is_left_free() -> None:
    """A step that samples copies 256 rows of logits in float32: a small model's trial run takes
    far less, and the card with little memory is asked for a smaller share."""
    small = MODELS["gemma-3-270m"].geometry
    many, few = (untried_bytes(small, chunk=2048, max_num_seqs=number) for number in (256, 16))
    assert many > 0.35 * GIB
    assert few < 0.05 * GIB
    assert memory_share(CARDS["rtx3060"], many) < memory_share(CARDS["rtx3060"], few)


def test_scored_prompts_take_more_than_their_trial_run() -> None:
    scored, written = (
        untried_bytes(OF_27B, chunk=512, max_num_seqs=16, scored=scored) for scored in (True, False)
    )
    assert scored > written


def test_no_graphs_no_memory_for_them() -> None:
    taken = overhead(OF_27B, RTX_3090, chunk=2048, max_num_seqs=16, eager=True)
    assert taken.graphs == 0


@pytest.mark.parametrize(
    ("card", "share"), [("rtx4060-laptop", 0.84), ("rtx3060", 0.89), ("rtx3090", 0.92)]
)
def test_a_gib_and_a_quarter_is_left_alone_on_every_card(card: str, share: float) -> None:
    assert memory_share(CARDS[card]) == share


def test_what_an_engine_reported_is_the_rest_of_its_share() -> None:
    usable = int(RTX_3090.vram_bytes * 0.9)
    assert seen(RTX_3090, 0.9, 17 * GIB, usable - 18 * GIB) == GIB


def test_sizes_that_were_set_by_hand_report_nothing() -> None:
    assert seen(RTX_3090, 0.9, GIB, GIB) is None
    assert seen(RTX_3090, 0.9, 20 * GIB, 20 * GIB) is None
