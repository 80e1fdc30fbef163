"""Commit records: what makes a file of results count, exactly once."""
