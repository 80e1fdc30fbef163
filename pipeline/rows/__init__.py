"""Data types that every layer uses: requests, completions, errors, workloads."""
