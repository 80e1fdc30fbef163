"""The output folder: a dataset for any Parquet reader, and beside it the state of a run."""
