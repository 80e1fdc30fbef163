"""An engine without a model, for rehearsals and for scale."""
