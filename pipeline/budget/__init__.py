"""What a model, a card and a job come to in bytes, blocks and seconds. Pure arithmetic."""
