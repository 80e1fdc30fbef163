"""JSON Lines, and arrays in .json files."""
