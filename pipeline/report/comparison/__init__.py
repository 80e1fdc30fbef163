"""Comparisons of outputs and of models: the statistics, and how they are shown."""
