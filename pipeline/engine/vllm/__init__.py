"""vLLM. All code that uses its internals is here."""
