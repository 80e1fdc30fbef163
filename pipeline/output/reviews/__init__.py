"""Reviews by people: the rows to review, and the reviewers' answers, beside an output."""
