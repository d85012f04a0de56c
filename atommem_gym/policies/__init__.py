"""What hand-written policies are made of: documents out of chunks, words, reads, actions that fit, a reader."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
