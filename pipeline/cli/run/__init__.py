"""`rackmill run`, and what a run shows and heeds while it runs."""
