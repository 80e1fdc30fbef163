"""Commands about models, and about machines as hosts for them."""
