"""Models, and what machines make of them."""
