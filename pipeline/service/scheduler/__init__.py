"""Jobs that run by themselves, when they are due."""
