"""report.html: what came out and how well."""
