"""Several machines as one: the rack, its queue of jobs, what a run has said."""
