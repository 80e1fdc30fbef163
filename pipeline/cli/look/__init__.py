"""The results of a job: rows, accuracy, trust, review, comparisons, verifying, export, cleaning."""
