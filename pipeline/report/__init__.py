"""What a run did, for people: report.md, summary.json, pictures."""
