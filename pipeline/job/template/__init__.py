"""Prompt templates: plain fields and sandboxed Jinja."""
