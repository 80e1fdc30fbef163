"""A dataset as one file for other programs."""
