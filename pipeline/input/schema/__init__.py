"""One schema for files whose schemas differ."""
