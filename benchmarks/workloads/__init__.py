"""What the contestants of a benchmark play: the same actions, items and budget for all of them."""
