"""What an agent memory is: entries, a scratchpad, the store that keeps them, the embedder that finds them (SPEC M)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
