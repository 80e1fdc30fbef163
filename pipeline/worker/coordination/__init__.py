"""Between the coordinator and a worker: what each sees of the other, and what travels."""
