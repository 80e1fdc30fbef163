"""`rackmill model`."""
