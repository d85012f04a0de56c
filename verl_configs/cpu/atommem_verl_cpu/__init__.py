"""What veRL 0.9.1 and vLLM need to train on a machine without an accelerator; for tests only."""
