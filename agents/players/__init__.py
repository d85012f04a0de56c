"""Players by name: scripted agents, and the ways to play with a language model, behind one protocol."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
