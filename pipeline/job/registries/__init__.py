"""The names that a job may use for engines, formats and policies: one line each."""
