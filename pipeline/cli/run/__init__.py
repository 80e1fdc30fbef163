"""Doing a job: running, watching and stopping it, and retrying its error rows."""
