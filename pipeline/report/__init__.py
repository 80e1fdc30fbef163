"""What a run was, for people: report.md, summary.json, pictures."""
