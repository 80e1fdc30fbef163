"""`rackmill doctor`."""
