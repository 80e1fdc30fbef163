"""Printing of commands, and the width of texts in a terminal."""
