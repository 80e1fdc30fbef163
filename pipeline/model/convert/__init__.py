"""Converts GGUF files to checkpoints that vLLM loads."""
