"""A net of recordings: what the package does today, to be the same after its modules have moved (README.md)."""
