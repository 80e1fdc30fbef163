"""How right labels are, from a few true ones. Pure arithmetic on numpy arrays: the same input gives
the same bytes."""
