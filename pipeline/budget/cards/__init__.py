"""The cards that are known: their memory, bandwidth and arithmetic."""
