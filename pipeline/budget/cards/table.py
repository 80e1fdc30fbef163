"""What NVIDIA's specification pages and architecture papers say of each card. Pure data.

A line: name, title, memory (GB), data rate of the memory (Gbit/s a pin), width of its bus (bits),
CUDA cores, boost clock (GHz), board power (W). What follows from it:

- bandwidth = data rate × width / 8;
- ``bf16``: dense tensor FLOP/s with fp32 accumulation = cores × clock × so many operations: four on
  GeForce (half of the fp16 figure that boxes print), eight on workstation cards of the same chips.

Laptop cards: the clock is the middle of the range that NVIDIA allows makers of laptops (a factor
of 1.2 to 1.7 lies between its ends), the power the upper end. Data-centre cards are listed with
their bandwidth and FLOP/s as their data sheets print them.
"""

from __future__ import annotations

TURING, AMPERE, ADA, BLACKWELL = (7, 5), (8, 6), (8, 9), (12, 0)

Line = tuple[str, str, float, float, int, int, float, float]

GEFORCE: dict[tuple[int, int], tuple[Line, ...]] = {
    TURING: (  # no bf16: Gemma 3 does not run on them
        ("rtx2060", "RTX 2060", 6, 14, 192, 1920, 1.680, 160),
        ("rtx2060-12gb", "RTX 2060 12 GB", 12, 14, 192, 2176, 1.650, 185),
        ("rtx2060s", "RTX 2060 SUPER", 8, 14, 256, 2176, 1.650, 175),
        ("rtx2070", "RTX 2070", 8, 14, 256, 2304, 1.620, 175),
        ("rtx2070s", "RTX 2070 SUPER", 8, 14, 256, 2560, 1.770, 215),
        ("rtx2080", "RTX 2080", 8, 14, 256, 2944, 1.710, 215),
        ("rtx2080s", "RTX 2080 SUPER", 8, 15.5, 256, 3072, 1.815, 250),
        ("rtx2080ti", "RTX 2080 Ti", 11, 14, 352, 4352, 1.545, 250),
        ("titanrtx", "TITAN RTX", 24, 14, 384, 4608, 1.770, 280),
    ),
    AMPERE: (
        ("rtx3050", "RTX 3050", 8, 14, 128, 2560, 1.777, 130),
        ("rtx3050-6gb", "RTX 3050 6 GB", 6, 14, 96, 2304, 1.470, 70),
        ("rtx3060", "RTX 3060", 12, 15, 192, 3584, 1.777, 170),
        ("rtx3060-8gb", "RTX 3060 8 GB", 8, 15, 128, 3584, 1.777, 170),
        ("rtx3060ti", "RTX 3060 Ti", 8, 14, 256, 4864, 1.665, 200),
        ("rtx3070", "RTX 3070", 8, 14, 256, 5888, 1.725, 220),
        ("rtx3070ti", "RTX 3070 Ti", 8, 19, 256, 6144, 1.770, 290),
        ("rtx3080", "RTX 3080", 10, 19, 320, 8704, 1.710, 320),
        ("rtx3080-12gb", "RTX 3080 12 GB", 12, 19, 384, 8960, 1.710, 350),
        ("rtx3080ti", "RTX 3080 Ti", 12, 19, 384, 10240, 1.665, 350),
        ("rtx3090", "RTX 3090", 24, 19.5, 384, 10496, 1.695, 350),
        ("rtx3090ti", "RTX 3090 Ti", 24, 21, 384, 10752, 1.860, 450),
        # of laptops, and Ampere, unlike its name
        ("rtx2050", "RTX 2050", 4, 14, 64, 2048, 1.316, 45),
        ("rtx3050-laptop", "RTX 3050 Laptop", 4, 12, 128, 2048, 1.399, 80),
        ("rtx3050-laptop-6gb", "RTX 3050 Laptop 6 GB", 6, 12, 96, 2560, 1.240, 80),
        ("rtx3050ti-laptop", "RTX 3050 Ti Laptop", 4, 12, 128, 2560, 1.365, 80),
        ("rtx3060-laptop", "RTX 3060 Laptop", 6, 14, 192, 3840, 1.493, 115),
        ("rtx3070-laptop", "RTX 3070 Laptop", 8, 14, 256, 5120, 1.455, 125),
        ("rtx3070ti-laptop", "RTX 3070 Ti Laptop", 8, 14, 256, 5888, 1.260, 125),
        ("rtx3080-laptop", "RTX 3080 Laptop", 8, 14, 256, 6144, 1.478, 150),
        ("rtx3080-laptop-16gb", "RTX 3080 Laptop 16 GB", 16, 14, 256, 6144, 1.478, 150),
        ("rtx3080ti-laptop", "RTX 3080 Ti Laptop", 16, 16, 256, 7424, 1.358, 150),
    ),
    ADA: (
        ("rtx4060", "RTX 4060", 8, 17, 128, 3072, 2.460, 115),
        ("rtx4060ti", "RTX 4060 Ti", 8, 18, 128, 4352, 2.535, 160),
        ("rtx4060ti-16gb", "RTX 4060 Ti 16 GB", 16, 18, 128, 4352, 2.535, 165),
        ("rtx4070", "RTX 4070", 12, 21, 192, 5888, 2.475, 200),
        ("rtx4070s", "RTX 4070 SUPER", 12, 21, 192, 7168, 2.475, 220),
        ("rtx4070ti", "RTX 4070 Ti", 12, 21, 192, 7680, 2.610, 285),
        ("rtx4070tis", "RTX 4070 Ti SUPER", 16, 21, 256, 8448, 2.610, 285),
        ("rtx4080", "RTX 4080", 16, 22.4, 256, 9728, 2.505, 320),
        ("rtx4080s", "RTX 4080 SUPER", 16, 23, 256, 10240, 2.550, 320),
        ("rtx4090", "RTX 4090", 24, 21, 384, 16384, 2.520, 450),
        ("rtx4090d", "RTX 4090 D", 24, 21, 384, 14592, 2.520, 425),
        ("rtx4050-laptop", "RTX 4050 Laptop", 6, 16, 96, 2560, 1.988, 115),
        ("rtx4060-laptop", "RTX 4060 Laptop", 8, 16, 128, 3072, 1.920, 115),
        ("rtx4070-laptop", "RTX 4070 Laptop", 8, 16, 128, 4608, 1.703, 115),
        ("rtx4080-laptop", "RTX 4080 Laptop", 12, 18, 192, 7424, 1.815, 150),
        ("rtx4090-laptop", "RTX 4090 Laptop", 16, 18, 256, 9728, 1.748, 150),
    ),
    BLACKWELL: (
        ("rtx5050", "RTX 5050", 8, 20, 128, 2560, 2.572, 130),
        ("rtx5060", "RTX 5060", 8, 28, 128, 3840, 2.497, 145),
        ("rtx5060ti", "RTX 5060 Ti", 8, 28, 128, 4608, 2.572, 180),
        ("rtx5060ti-16gb", "RTX 5060 Ti 16 GB", 16, 28, 128, 4608, 2.572, 180),
        ("rtx5070", "RTX 5070", 12, 28, 192, 6144, 2.512, 250),
        ("rtx5070ti", "RTX 5070 Ti", 16, 28, 256, 8960, 2.452, 300),
        ("rtx5080", "RTX 5080", 16, 30, 256, 10752, 2.617, 360),
        ("rtx5090", "RTX 5090", 32, 28, 512, 21760, 2.407, 575),
        ("rtx5050-laptop", "RTX 5050 Laptop", 8, 24, 128, 2560, 2.000, 100),
        ("rtx5060-laptop", "RTX 5060 Laptop", 8, 24, 128, 3328, 1.976, 100),
        ("rtx5070-laptop", "RTX 5070 Laptop", 8, 24, 128, 4608, 1.886, 100),
        ("rtx5070ti-laptop", "RTX 5070 Ti Laptop", 12, 28, 192, 5888, 1.834, 115),
        ("rtx5080-laptop", "RTX 5080 Laptop", 16, 28, 256, 7680, 1.894, 150),
        ("rtx5090-laptop", "RTX 5090 Laptop", 24, 28, 256, 10496, 1.879, 150),
    ),
}
TENSOR_OPERATIONS = {TURING: 8, AMPERE: 4, ADA: 4, BLACKWELL: 4}  # a core and clock, on GeForce

# Of the 5090 D NVIDIA sells 2,375 "AI TOPS" where the 5090 has 3,352.
# name, title, GB, GB/s, dense bf16 TFLOP/s, W, capability, GiB that CUDA shows (None: 98 % of GB)
PRINTED: tuple[tuple[str, str, float, float, float, float, tuple[int, int], float | None], ...] = (
    ("rtx5090d", "RTX 5090 D", 32, 1792, 148.4, 575, BLACKWELL, 31.37),
    ("rtx5090d-24gb", "RTX 5090 D v2", 24, 1344, 148.4, 575, BLACKWELL, None),
    ("t4", "T4", 16, 320, 65, 70, TURING, 14.6),
    ("v100", "V100", 16, 900, 125, 300, (7, 0), 15.8),
    ("a2", "A2", 16, 200, 18, 60, AMPERE, 14.6),
    ("a2000", "RTX A2000", 6, 288, 31.9, 70, AMPERE, 5.7),
    ("a2000-12gb", "RTX A2000 12 GB", 12, 288, 31.9, 70, AMPERE, 11.6),
    ("a4000", "RTX A4000", 16, 448, 76.7, 140, AMPERE, 15.7),
    ("a4500", "RTX A4500", 20, 640, 94.6, 200, AMPERE, 19.6),
    ("a5000", "RTX A5000", 24, 768, 111.1, 230, AMPERE, 23.5),
    ("a5500", "RTX A5500", 24, 768, 136.4, 230, AMPERE, 23.5),
    ("a6000", "RTX A6000", 48, 768, 154.8, 300, AMPERE, 47.4),
    ("a10", "A10", 24, 600, 125, 150, AMPERE, 22.0),
    ("a10g", "A10G", 24, 600, 70, 300, AMPERE, 22.0),
    ("a40", "A40", 48, 696, 149.7, 300, AMPERE, 44.4),
    ("rtx2000-ada", "RTX 2000 Ada", 16, 224, 48, 70, ADA, 15.6),
    ("rtx4000-ada", "RTX 4000 Ada", 20, 360, 106.9, 130, ADA, 19.6),
    ("rtx4500-ada", "RTX 4500 Ada", 24, 432, 158.5, 210, ADA, 23.5),
    ("rtx5000-ada", "RTX 5000 Ada", 32, 576, 261.1, 250, ADA, 31.4),
    ("rtx6000-ada", "RTX 6000 Ada", 48, 960, 364.2, 300, ADA, 47.4),
    ("l4", "L4", 24, 300, 121, 72, ADA, 22.0),
    ("l40", "L40", 48, 864, 181, 300, ADA, 44.4),
    ("l40s", "L40S", 48, 864, 362, 350, ADA, 44.4),
    ("a30", "A30", 24, 933, 165, 165, (8, 0), 23.6),
    ("a100-40gb", "A100 40 GB", 40, 1555, 312, 400, (8, 0), 39.4),
    ("a100-80gb", "A100 80 GB", 80, 2039, 312, 400, (8, 0), 79.2),
    ("h100", "H100", 80, 3350, 989.4, 700, (9, 0), 79.2),
    ("h200", "H200", 141, 4800, 989.4, 700, (9, 0), 139.8),
    ("rtxpro6000", "RTX PRO 6000", 96, 1792, 503.8, 600, BLACKWELL, 94.9),
    # its memory is the machine's, LPDDR5X; a quarter of a petaflop in fp8 makes half of that
    ("gb10", "GB10", 128, 273, 125, 140, (12, 1), 119.6),
)
SEEN_GIB = {  # of GeForce cards, as logs of vLLM print it; of the others 98 % of what the box says
    "rtx3090": 23.56,
    "rtx3090ti": 23.56,
    "rtx4090": 23.52,
    "rtx4090d": 23.52,
    "rtx5090": 31.37,
}
