"""What a job may ask for by name: one line each."""
