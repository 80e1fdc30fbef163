"""What came of a job: rows, how right they are, which output is better, a file to give away."""
