"""The results of a job: rows, their accuracy, comparisons of outputs, export to a file."""
