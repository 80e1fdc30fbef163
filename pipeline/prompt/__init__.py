"""A row to token ids, and an engine's tokens to the row's answer."""
