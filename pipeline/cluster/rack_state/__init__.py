"""What the head of a rack keeps: its machines, who may use which cards, and who does."""
