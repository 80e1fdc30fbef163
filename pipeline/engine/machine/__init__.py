"""What this machine is and how its cards are now."""
