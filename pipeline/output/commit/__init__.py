"""Commit records, and the tree of cut units (``output.dataset.Dataset`` creates a record)."""
