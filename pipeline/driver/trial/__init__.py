"""A few rows at once, with an engine that stays loaded between tries."""
