"""The page on which people say which answers are right: on loopback, for one reviewer."""
