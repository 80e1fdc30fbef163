"""Submitted jobs: which gets which cards, and how far they are."""
