"""Cards that are given up while someone uses the desktop."""
