"""`rackmill fit`."""
