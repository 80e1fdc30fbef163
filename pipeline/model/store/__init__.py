"""The models of this machine: named, fetched, converted, kept."""
