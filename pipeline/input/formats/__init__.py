"""File formats: each has one file or folder."""
