"""Reviews in the formats of other tools: export and import."""
