"""The faces of an episode: Gymnasium environments, their wrappers and renderings."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
