"""Gemma 3: text models, and the text part of those with a vision tower."""
