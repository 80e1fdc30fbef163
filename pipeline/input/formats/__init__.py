"""File formats: each has a folder with a ``kind.py``; what they share is beside them."""
