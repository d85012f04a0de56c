"""Embedders turn texts into vectors: the built-in one, models in this process, and servers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
