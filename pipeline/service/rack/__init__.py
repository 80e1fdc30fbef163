"""Makes a machine part of a rack, and keeps it there."""
