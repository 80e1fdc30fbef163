"""vLLM's scheduler and KV cache as a pure step model."""
