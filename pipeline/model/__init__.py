"""Models: families, catalogue, store, conversion, tokenizers."""
