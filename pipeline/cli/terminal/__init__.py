"""Where commands print, and how wide their texts are there."""
