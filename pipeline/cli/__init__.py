"""The `rackmill` command: one file a verb."""
