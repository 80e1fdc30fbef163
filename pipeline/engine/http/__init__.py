"""Engines that are servers: asked over HTTP, behind the engine protocol like all others."""
