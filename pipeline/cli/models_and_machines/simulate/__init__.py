"""`rackmill simulate`."""
