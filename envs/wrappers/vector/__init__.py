"""Wrappers of vector environments, with the same names as those of plain ones."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
