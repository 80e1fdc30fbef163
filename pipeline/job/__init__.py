"""The job file as frozen models: the only place that says what a key means."""
