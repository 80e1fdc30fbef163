"""Ray: starting and joining it, its machines, and the slots for engines on them."""
