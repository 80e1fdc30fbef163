"""Runs without engines: vLLM's scheduler as a model, cards, whole racks."""
