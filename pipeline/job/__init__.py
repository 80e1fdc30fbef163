"""The job file as frozen models: what a key means is said here, once."""
