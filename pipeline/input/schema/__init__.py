"""One schema for files with different schemas."""
