"""NVIDIA's driver and cards, and what vLLM needs around them."""
