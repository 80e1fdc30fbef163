"""What every layer speaks of: requests, completions, errors, workloads."""
