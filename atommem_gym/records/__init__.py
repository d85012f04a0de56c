"""Records, their sources, the items made of them, and the document stream (SPEC D, E1, E8, E9)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
