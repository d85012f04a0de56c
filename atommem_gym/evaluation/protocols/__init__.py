"""Fixed protocols: the exact items to play, with hashes, so that the numbers of two papers can be compared."""
