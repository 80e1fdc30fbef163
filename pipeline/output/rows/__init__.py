"""Rows of an output: read back, found, done again."""
