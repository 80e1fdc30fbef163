"""Models: their shapes, checkpoints, tokenizers."""
