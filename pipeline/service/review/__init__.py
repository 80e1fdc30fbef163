"""The page on which people say what is right: on loopback, for one reviewer."""
