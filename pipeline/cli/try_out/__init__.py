"""Before a job runs for good: a demo, a first job file, which models fit, a plan, a few rows."""
