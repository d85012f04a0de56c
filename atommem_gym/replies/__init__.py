"""What language models and their servers reply, as text."""
