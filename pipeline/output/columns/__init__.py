"""The columns of the output, and how results become Arrow tables."""
