"""The `rackmill` command: one folder per group of its help, one file per command."""
