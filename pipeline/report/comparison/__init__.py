"""Outputs and models held against each other: the statistics, and how they are shown."""
