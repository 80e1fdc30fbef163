"""Families of models: what is known of each stands in its folder, and is asked through one door."""
