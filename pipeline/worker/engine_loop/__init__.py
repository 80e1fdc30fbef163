"""Keeping one engine full, and seeing that it moves."""
