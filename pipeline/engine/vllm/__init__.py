"""vLLM. Everything that touches its insides is here."""
