"""The workers of a run: started, watched, replaced after an engine's death."""
