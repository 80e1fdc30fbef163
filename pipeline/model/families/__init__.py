"""Families of models: what is known of each lies in its folder, behind one protocol."""
