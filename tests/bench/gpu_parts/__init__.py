"""What `tests/bench/gpu.py` measures, each in a process of its own."""
