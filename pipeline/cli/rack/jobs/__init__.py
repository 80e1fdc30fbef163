"""`rackmill submit`, `jobs`, `watch`, `stop`."""
