"""Parquet, and what is written out as it: Arrow IPC, Feather, ORC."""
