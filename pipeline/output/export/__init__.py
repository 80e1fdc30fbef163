"""Writes a dataset as one file for other programs."""
