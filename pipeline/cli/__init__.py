"""The `rackmill` command: one file a verb, or a folder where a verb shows much."""
