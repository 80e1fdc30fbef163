"""`rackmill submit`, `jobs`, `watch`, `logs`, `stop`."""
