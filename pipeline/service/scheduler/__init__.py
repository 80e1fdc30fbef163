"""Jobs that start by themselves when they are due."""
