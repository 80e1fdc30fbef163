"""Reading job files: YAML in, a checked Job out, every mistake with its line."""
