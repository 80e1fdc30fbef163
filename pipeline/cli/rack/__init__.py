"""Several machines as one: the rack, its queue of jobs, and the logs of runs."""
