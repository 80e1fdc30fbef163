"""Threads that run beside the driver's loop."""
