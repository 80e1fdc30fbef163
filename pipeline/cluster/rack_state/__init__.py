"""State at the head of a rack: its machines, who may use which cards, and who uses them."""
