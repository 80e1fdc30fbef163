"""Cards that are given up while somebody uses the desktop."""
