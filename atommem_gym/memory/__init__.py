"""The agent's memory: its state machine, the protocols of embedders and stores, the ranking of a read (SPEC M)."""
