"""One engine's worker: reads its rows, keeps the engine full, writes its files."""
