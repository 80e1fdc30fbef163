"""A run is to stop: who wishes it, who asks for it from outside, and how it ends gracefully."""
