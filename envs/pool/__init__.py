"""The async pool: episodes that run at their own pace, in many coroutines, and share batched I/O."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
