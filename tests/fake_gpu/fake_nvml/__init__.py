"""A fake NVIDIA driver for tests; see ``tests/fake_cards.py`` for how to use it."""
