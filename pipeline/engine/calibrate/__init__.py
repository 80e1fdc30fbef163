"""Measuring what an engine's steps cost, for the simulator."""
