"""The agent's memory: its state machine, the protocols of embedders and stores, the ranking of a read (SPEC M)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
