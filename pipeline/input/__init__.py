"""Input files: found, scanned, read in units of work, and read a second time for `verify`."""
