"""How right labels are, as a report says it."""
