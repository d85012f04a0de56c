"""Generated worlds: seeded, offline, with questions that only their documents answer (SPEC D4 to D6, D8, D9)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
