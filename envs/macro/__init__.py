"""Macro-actions: a few discrete choices per step in place of text, and observations as one vector of numbers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
