"""What became of the input since an output was begun."""
