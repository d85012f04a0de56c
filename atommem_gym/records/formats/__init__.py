"""The shapes in which records come, one file each, and what they share (SPEC D2)."""
