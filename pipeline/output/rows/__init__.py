"""Rows of an output: reading, finding and redoing them."""
