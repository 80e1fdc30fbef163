"""A dataset that grows run by run."""
