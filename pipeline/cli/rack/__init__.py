"""`rackmill rack`."""
