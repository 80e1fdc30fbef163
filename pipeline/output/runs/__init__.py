"""The runs that work on an output: their records, logs and progress."""
