"""Models and outputs held against each other by a model."""
