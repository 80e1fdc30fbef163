"""`rackmill init`."""
