"""When a job runs, in which hours, and until when."""
