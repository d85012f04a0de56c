"""Records as training examples for veRL and TRL."""
