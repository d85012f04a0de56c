"""Fixed protocols: what is played to the item, with hashes, so that the numbers of two papers can be compared."""
