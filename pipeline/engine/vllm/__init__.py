"""vLLM. All code that runs on its internals is here."""
