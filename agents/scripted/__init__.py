"""Scripted agents, one file each, from the floor to the ceiling."""
