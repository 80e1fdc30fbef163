"""How right labels are, as shown in a report."""
