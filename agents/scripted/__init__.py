"""Policies written by hand, one file each, from the floor to the ceiling."""
