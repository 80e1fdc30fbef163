"""Who works on which rows, over all engines of a run: a pure state machine."""
