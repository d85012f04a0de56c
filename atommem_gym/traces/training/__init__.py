"""Traces as training data: for veRL, TRL and Minari."""
