"""The models on this machine: how they are named, fetched, converted and stored."""
