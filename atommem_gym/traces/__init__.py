"""Traces: the versioned record of an episode, written, read, checked and explained."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
