"""Which requests one engine holds at once, by the KV blocks they will need. Pure."""
