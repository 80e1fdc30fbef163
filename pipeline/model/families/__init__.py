"""Families of models: what is specific to each is in its folder, behind one protocol."""
