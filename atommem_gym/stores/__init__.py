"""Stores keep the entries of many episodes and propose candidates for searches (SPEC M6, M13)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
