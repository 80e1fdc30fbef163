"""The output folder: a dataset any Parquet reader opens, and beside it the truth about a run."""
