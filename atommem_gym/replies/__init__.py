"""Reads and quotes the texts that language models and their servers reply."""
