"""Frozen readers, which answer in the policy's place from what its memory shows (SPEC E13)."""
