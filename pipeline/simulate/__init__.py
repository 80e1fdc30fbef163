"""Runs without engines: a model of vLLM's scheduler, simulated cards, whole racks."""
