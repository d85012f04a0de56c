"""Reads and writes files: JSON lines, the cache folder, HTML pages, models of the Hugging Face hub."""
