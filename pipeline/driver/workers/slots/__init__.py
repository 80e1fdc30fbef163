"""The slots of a run: chosen, filled with engines, lost, taken back."""
