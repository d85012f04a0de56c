"""Generated worlds: seeded, offline, each with questions that its documents alone answer (SPEC D4 to D6)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
