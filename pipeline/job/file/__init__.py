"""Reading job files: YAML in, a checked Job out; every mistake is reported with its line."""
