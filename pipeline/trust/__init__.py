"""How often labels are right, estimated from a few true labels. Pure arithmetic on numpy arrays:
the same input gives the same bytes."""
