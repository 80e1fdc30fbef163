"""Reading the input: files, formats, one schema for all, and what changed since."""
