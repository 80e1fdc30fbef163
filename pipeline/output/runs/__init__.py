"""The runs that work on an output: who they are, what they logged, how far they are."""
