"""The runs of a schedule beside each other."""
