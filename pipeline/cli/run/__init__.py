"""Doing a job: running it and what it shows meanwhile, its status, stopping, error rows again."""
