"""Checks whether a finished dataset keeps its promises."""
