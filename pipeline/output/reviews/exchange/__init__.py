"""Reviews in the shapes of other tools, and back."""
