"""Parquet, and the formats converted to it: Arrow IPC, Feather, ORC."""
