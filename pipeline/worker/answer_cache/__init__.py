"""Finished answers by content: nothing is computed twice."""
