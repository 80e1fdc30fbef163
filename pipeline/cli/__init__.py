"""The `rackmill` command: one folder a group of its help, one file a verb."""
