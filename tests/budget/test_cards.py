"""Names of cards, as people and drivers write them."""

from __future__ import annotations

import pytest

from pipeline.budget.cards import CARDS, GIB, card_from_device, cpu_card, find_card, parse_gpus
from pipeline.errors import UsageError


@pytest.mark.parametrize("name", ["rtx4060-laptop", "RTX 4060 Laptop", "RTX4060 laptop"])
def test_case_spaces_and_hyphens_do_not_count(name: str) -> None:
    assert find_card(name) is CARDS["rtx4060-laptop"]


def test_an_unknown_card_names_its_neighbours() -> None:
    with pytest.raises(UsageError, match="rtx3900") as caught:
        find_card("rtx3900")
    assert "rtx3090" in caught.value.hints[0]


@pytest.mark.parametrize(
    ("device", "mib", "name"),
    [
        ("NVIDIA GeForce RTX 3090", 24_576, "rtx3090"),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", 16_376, "rtx4070tis"),
        ("NVIDIA GeForce RTX 4060 Laptop GPU", 8188, "rtx4060-laptop"),
        ("NVIDIA GeForce RTX 4060 Ti", 16_380, "rtx4060ti-16gb"),
        ("NVIDIA GeForce RTX 4060 Ti", 8188, "rtx4060ti"),
        ("NVIDIA GeForce RTX 3080", 12_288, "rtx3080-12gb"),
        ("NVIDIA A100-SXM4-40GB", 40_960, "a100-40gb"),
        ("NVIDIA A100 80GB PCIe", 81_920, "a100-80gb"),
        ("NVIDIA H100 80GB HBM3", 81_559, "h100"),
        ("NVIDIA H200", 143_771, "h200"),
        ("NVIDIA L40S", 46_068, "l40s"),
        ("Tesla T4", 15_360, "t4"),
        ("NVIDIA RTX 6000 Ada Generation", 49_140, "rtx6000-ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 97_887, "rtxpro6000"),
    ],
)
def test_a_drivers_name_and_memory_say_which_card_it_is(device: str, mib: int, name: str) -> None:
    assert card_from_device(device, mib << 20) is CARDS[name]


def test_a_card_that_nobody_knows_keeps_its_name_and_memory() -> None:
    card = card_from_device("NVIDIA GeForce RTX 6090", 48 << 30, (13, 0))
    assert (card.title, card.vram_gb) == ("RTX 6090", 48)
    assert card.has_fp8_kv


def test_a_list_of_cards_has_a_number_before_each() -> None:
    found = parse_gpus("4x rtx3090,2x RTX 4090, l4")
    assert [(n, c.name) for n, c in found] == [(4, "rtx3090"), (2, "rtx4090"), (1, "l4")]


@pytest.mark.parametrize("text", ["", "0x rtx3090", "2x", ","])
def test_what_is_no_list_of_cards_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_gpus(text)


def test_fp8_begins_with_ada_and_bf16_with_ampere() -> None:
    without = {n for n, c in CARDS.items() if not c.has_bf16}
    assert without == {n for n in CARDS if n.startswith("rtx20")} - {"rtx2000-ada"} | {
        "titanrtx", "t4", "v100",
    }  # fmt: skip
    assert not CARDS["a100-80gb"].has_fp8_kv
    assert CARDS["l4"].has_fp8_kv
    assert CARDS["rtx5090"].has_fp8_kv


def test_cuda_never_shows_more_than_the_box_says() -> None:
    for card in CARDS.values():
        assert 0.9 * card.vram_gb * GIB < card.vram_bytes <= card.vram_gb * GIB


def test_a_processor_is_a_card_too() -> None:
    card = cpu_card(16 * GIB, 4)
    assert card.is_cpu
    assert card.has_bf16
    assert card.bf16_flops == 4 * cpu_card(16 * GIB, 1).bf16_flops
