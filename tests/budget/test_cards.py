"""Names of cards, as people and drivers write them."""

from __future__ import annotations

import re

import pytest

from pipeline.budget.cards.lookup import (
    CARDS,
    GIB,
    DriverReading,
    card_from_device,
    cpu_card,
    find_card,
    parse_gpus,
)
from pipeline.errors import UsageError


@pytest.mark.parametrize(
    "name",
    ["rtx4060-laptop", "RTX 4060 Laptop", "RTX4060 laptop", "NVIDIA GeForce RTX 4060 Laptop GPU"],
)
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


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("3090", [(1, "rtx3090")]),
        ("rtx3090", [(1, "rtx3090")]),
        ("2x rtx3090", [(2, "rtx3090")]),
        ("2x3090", [(2, "rtx3090")]),
        ("rtx3090:2", [(2, "rtx3090")]),
        ("RTX 3090 : 2", [(2, "rtx3090")]),
        ("3090:2, 4060 laptop ,l4", [(2, "rtx3090"), (1, "rtx4060-laptop"), (1, "l4")]),
    ],
)
def test_cards_are_written_in_one_way_everywhere(text: str, found: list[tuple[int, str]]) -> None:
    assert [(number, card.name) for number, card in parse_gpus(text)] == found


def test_a_list_of_cards_has_a_number_before_each() -> None:
    found = parse_gpus("4x rtx3090,2x RTX 4090, l4")
    assert [(n, c.name) for n, c in found] == [(4, "rtx3090"), (2, "rtx4090"), (1, "l4")]


@pytest.mark.parametrize(
    "text", ["", "0x rtx3090", "2x", ",", "rtx3090:0", "2x rtx3090:2", "rtx3090:", ":2"]
)
def test_what_is_no_list_of_cards_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_gpus(text)


def test_fp8_begins_with_ada_and_bf16_with_ampere() -> None:
    without = {n for n, c in CARDS.items() if not c.has_bf16}
    assert without == {n for n in CARDS if n.startswith("rtx20")} - {"rtx2000-ada", "rtx2050"} | {
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


class TestDriversNames:
    @pytest.mark.parametrize(
        ("device", "mib", "name"),
        [
            ("NVIDIA GeForce RTX 2050", 4096, "rtx2050"),
            ("NVIDIA GeForce RTX 3050", 8192, "rtx3050"),
            ("NVIDIA GeForce RTX 3050", 6144, "rtx3050-6gb"),
            ("NVIDIA GeForce RTX 3050 Laptop GPU", 4096, "rtx3050-laptop"),
            ("NVIDIA GeForce RTX 3050 6GB Laptop GPU", 6144, "rtx3050-laptop-6gb"),
            ("NVIDIA GeForce RTX 3060", 12_288, "rtx3060"),
            ("NVIDIA GeForce RTX 3060", 8192, "rtx3060-8gb"),
            ("NVIDIA GeForce RTX 3060 Laptop GPU", 6144, "rtx3060-laptop"),
            ("NVIDIA GeForce RTX 3070 Ti", 8192, "rtx3070ti"),
            ("NVIDIA GeForce RTX 3080 Laptop GPU", 16_384, "rtx3080-laptop-16gb"),
            ("NVIDIA GeForce RTX 4050 Laptop GPU", 6141, "rtx4050-laptop"),
            ("NVIDIA GeForce RTX 4070 Laptop GPU", 8188, "rtx4070-laptop"),
            ("NVIDIA GeForce RTX 4070 SUPER", 12_282, "rtx4070s"),
            ("NVIDIA GeForce RTX 4090 D", 24_564, "rtx4090d"),
            ("NVIDIA GeForce RTX 4090 Laptop GPU", 16_376, "rtx4090-laptop"),
            ("NVIDIA GeForce RTX 5060", 8151, "rtx5060"),
            ("NVIDIA GeForce RTX 5060 Ti", 8151, "rtx5060ti"),
            ("NVIDIA GeForce RTX 5060 Ti", 16_311, "rtx5060ti-16gb"),
            ("NVIDIA GeForce RTX 5070 Ti Laptop GPU", 12_227, "rtx5070ti-laptop"),
            ("NVIDIA GeForce RTX 5090 D", 32_607, "rtx5090d"),
            ("NVIDIA GeForce RTX 5090 D v2", 24_463, "rtx5090d-24gb"),
            ("NVIDIA GeForce RTX 5090 Laptop GPU", 24_463, "rtx5090-laptop"),
            ("NVIDIA GeForce RTX 2080 SUPER", 8192, "rtx2080s"),
            ("NVIDIA TITAN RTX", 24_576, "titanrtx"),
            ("NVIDIA A10G", 23_028, "a10g"),
            ("NVIDIA GB10", 122_570, "gb10"),
            ("NVIDIA H100 PCIe", 81_559, "h100"),
            ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", 97_887, "rtxpro6000"),
        ],
    )
    def test_each_card_is_itself(self, device: str, mib: int, name: str) -> None:
        assert card_from_device(device, mib << 20) is CARDS[name]

    @pytest.mark.parametrize(
        "device",
        [
            "GeForce RTX 2080 Super with Max-Q Design",
            "NVIDIA GeForce RTX 2070 with Max-Q Design",
            "NVIDIA RTX A4000 Laptop GPU",
            "NVIDIA RTX 5000 Ada Generation Laptop GPU",
            "NVIDIA GeForce RTX 5090 Max-Q",
        ],
    )
    def test_a_laptops_is_never_taken_for_a_desktops(self, device: str) -> None:
        card = card_from_device(device, 16 << 30, (7, 5))

        assert card.guessed or card.is_laptop
        assert card.name not in {n for n, known in CARDS.items() if not known.is_laptop}

    @pytest.mark.parametrize("name", [n for n, c in CARDS.items() if c.name.startswith("rtx")])
    def test_the_drivers_name_of_each_leads_back_to_it(self, name: str) -> None:
        card = CARDS[name]
        title = re.sub(r" \d+ GB$", "", card.title).replace("Laptop", "Laptop GPU")
        title = title.replace(" Ada", " Ada Generation")

        assert card_from_device(f"NVIDIA GeForce {title}", card.vram_bytes) is card

    def test_turing_is_known_and_has_no_bf16(self) -> None:
        assert not card_from_device("NVIDIA GeForce RTX 2070", 8 << 30).has_bf16
        assert not card_from_device("NVIDIA GeForce GTX 1660", 6 << 30, (7, 5)).has_bf16


class TestWhatTheDriverTells:
    # as nvidia-smi prints them: highest memory clock in MHz, width of the bus in bits
    @pytest.mark.parametrize(
        ("name", "clock", "width"),
        [
            ("rtx3060", 7501, 192), ("rtx3090", 9751, 384), ("rtx4060", 8501, 128),
            ("rtx4090", 10501, 384), ("rtx5090", 14001, 512), ("a100-80gb", 1593, 5120),
            ("t4", 5001, 256), ("l4", 6251, 192), ("h100", 2619, 5120),
        ],
    )  # fmt: skip
    def test_clock_and_bus_give_the_bandwidth_of_the_data_sheet(
        self, name: str, clock: int, width: int
    ) -> None:
        measured = DriverReading(memory_clock=clock, bus_width=width)

        assert measured.bandwidth == pytest.approx(CARDS[name].bandwidth, rel=0.01)

    # cores and highest clock of the SMs
    @pytest.mark.parametrize(
        ("name", "cores", "clock"),
        [
            ("rtx3090", 10496, 2100), ("rtx4090", 16384, 3105), ("rtx5090", 21760, 3090),
            ("a100-80gb", 6912, 1410), ("h100", 16896, 1980),
        ],
    )  # fmt: skip
    def test_cores_and_clock_give_the_arithmetic_to_a_quarter(
        self, name: str, cores: int, clock: int
    ) -> None:
        flops = DriverReading(cores=cores, sm_clock=clock).bf16_flops(
            CARDS[name].compute_capability
        )

        assert flops == pytest.approx(CARDS[name].bf16_flops, rel=0.25)

    def test_an_unknown_card_is_as_fast_as_its_driver_tells(self) -> None:
        told = DriverReading(memory_clock=16_001, bus_width=256, cores=12_000, sm_clock=3000)
        card = card_from_device("NVIDIA GeForce RTX 6070 Ti", 16 << 30, (13, 0), told)

        assert card.bandwidth == pytest.approx(1024e9, rel=0.01)
        assert card.bf16_flops == pytest.approx(12_000 * 3e9 * 0.8 * 4)
        assert "clocks" in card.guessed

    def test_where_it_tells_nothing_the_nearest_in_memory_stands_for_it(self) -> None:
        card = card_from_device("NVIDIA GeForce RTX 6070 Ti", 16 << 30, (13, 0))

        assert card.bandwidth == CARDS["rtx4060ti-16gb"].bandwidth
        assert "RTX 4060 Ti" in card.guessed

    def test_the_same_name_with_faster_memory(self) -> None:
        """An RTX 3060 Ti with GDDR6X."""
        card = card_from_device(
            "NVIDIA GeForce RTX 3060 Ti", 8 << 30, (8, 6), DriverReading(9501, 256)
        )

        assert card.name == "rtx3060ti"
        assert card.bandwidth == pytest.approx(608e9, rel=0.01)

    def test_a_known_chip_with_more_memory_keeps_its_speed(self) -> None:
        """As sold with memory soldered on."""
        card = card_from_device("NVIDIA GeForce RTX 4090", 48 << 30, (8, 9))

        assert (card.name, card.vram_gb) == ("rtx4090-48gb", 48)
        assert card.bandwidth == CARDS["rtx4090"].bandwidth
        assert card.vram_bytes == 48 << 30
        assert card.guessed
