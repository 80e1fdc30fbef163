"""Making a machine part of a rack, and keeping it so."""
