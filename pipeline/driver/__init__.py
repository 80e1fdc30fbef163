"""A run from the driver's side: plan, workers, commits, report."""
