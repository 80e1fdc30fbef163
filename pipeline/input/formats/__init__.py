"""File formats: one file or folder each."""
