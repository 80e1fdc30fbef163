"""How the input changed since an output was started."""
