"""A job done: run, followed, stopped, its error rows done again."""
