"""Engines outside of a run: whether a checkpoint answers, and what an engine's steps cost."""
