"""The actor through which workers ask for leases; ``dispatch`` decides on them."""
