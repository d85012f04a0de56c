"""Traces: versioned records of episodes, which can be written, read, replayed and explained."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
