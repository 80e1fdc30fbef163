"""The job file: its models, templates and fingerprint, and the registries it names members of."""
