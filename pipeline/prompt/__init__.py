"""From a row to token ids, and from an engine's tokens to the row's answer."""
