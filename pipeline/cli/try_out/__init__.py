"""Before a job's real run: a demo, a first job file, which models fit, a plan, a few rows."""
