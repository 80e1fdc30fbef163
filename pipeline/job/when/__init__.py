"""When a job runs, in which hours, and its deadline."""
