"""Folders and object stores behind the few operations that commits rely on."""
