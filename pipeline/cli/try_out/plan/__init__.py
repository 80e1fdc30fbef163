"""`rackmill plan`."""
