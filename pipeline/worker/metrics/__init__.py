"""What a worker counts and measures, and how it is told."""
