"""Commit records: they make a file of results count, exactly once."""
