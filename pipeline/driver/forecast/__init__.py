"""How long a job will take, and what earlier runs teach of it."""
