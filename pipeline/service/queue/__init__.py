"""Submitted jobs: which job gets which cards, and how far the jobs are."""
