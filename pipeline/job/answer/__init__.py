"""The shape of the answers that a job wants."""
