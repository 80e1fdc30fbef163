"""A fake NVIDIA driver for tests; see ``tests/support/fake_cards.py`` for how to use it."""
