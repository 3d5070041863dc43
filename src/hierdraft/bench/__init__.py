"""How much faster, and is it the same."""
